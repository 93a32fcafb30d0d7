/* A controller, TransparentProxy objects and Secrets: what is in force, what is said about it. */
#ifndef TPROXY_TESTS_WORLD_CONFIGURATION_H
#define TPROXY_TESTS_WORLD_CONFIGURATION_H

#include "tests/unit/world/controller.h"

#define OBJECT "transparent-proxy"
#define INSTANCE(name, secret)                                                                     \
    "{'name':'" name "','serviceCredentials':{'secretName':'" secret "','secretNamespace':'vault'" \
    "}}"

#define SERVICE(instances)                                                                         \
    "'config':{'integration':{'destinationService':{'defaultInstanceName':'one','instances':"      \
    "[" instances "]}}}"

void put_key(const char *secret, const char *client);

/* A condition of the TransparentProxy object: "status reason"; of the message *text. */
const char *said(const char *object, const char *type, const char **text);

void expect_said(const char *object, const char *state, const char *type, const char *expected,
                 const char *part);

/* What the real list of instances answers about one. */
struct answer {
    bool came;
    enum verdict verdict;
    struct error err;
};

/* Has the instance a key? Nobody listens at the addresses that it names. */
bool has_key(const char *instance);

void start(void);

#endif

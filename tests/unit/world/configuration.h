/* The world of tests of the configuration: TransparentProxy objects and Secrets, and checks of what
 * is in force and what the status says. */
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

/* Returns a condition of the TransparentProxy object as "status reason", and stores its message in
 * *text. */
const char *said(const char *object, const char *type, const char **text);

void expect_said(const char *object, const char *state, const char *type, const char *expected,
                 const char *part);

/* The answer of the real list of instances. */
struct answer {
    bool came;
    enum verdict verdict;
    struct error err;
};

/* Returns whether the instance has a key. Nobody listens at the addresses in the keys. */
bool has_key(const char *instance);

void start(void);

#endif

/* The command line: flags and their defaults. */
#ifndef TPROXY_TPROXY_OPTIONS_H
#define TPROXY_TPROXY_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/addr.h"
#include "lib/base.h"
#include "lib/log.h"
#include "pop3.h"

struct k8s;

/* The settings. Texts are those of argv, or in static storage. */
struct options {
    const char *local_dir;   /* NULL: in a cluster */
    const char *kube_url;    /* NULL: from the environment of a pod */
    const char *credentials; /* directory; NULL: that of a pod, or none beside kube_url */
    const char *namespace;   /* of the installation; NULL: that of the credentials */
    const char *domain;      /* of the cluster; NULL: from the resolver's search list */
    bool claim_all;
    size_t namespace_targets; /* most of one namespace; 0: unbounded */
    int64_t service_delay;    /* microseconds */
    bool leader_elect;        /* false: this is the only replica, which leads */
    const char *lease_name;
    int64_t lease_duration, renew_deadline, retry_period; /* microseconds */
    union addr listen;
    uint16_t first_port, last_port; /* 0, 0: any */
    const char *admin;              /* NULL: none */
    const char *control;            /* NULL: none */
    enum log_level log_level;
    bool log_level_given;
    enum log_format log_format;
    const char *ca_file; /* NULL: the system's */
    const char *resolv_conf, *hosts;
    int64_t drain_delay, grace; /* microseconds */
    struct pop3_settings pop3;  /* max_sessions 0: as many as descriptors and memory allow */
};

/* The files of the resolver that are read unless flags say otherwise. */
#define OPTIONS_RESOLV_CONF "/etc/resolv.conf"
#define OPTIONS_HOSTS "/etc/hosts"

/* The program's version, and the name of the control socket when none is given. */
extern const char *const options_version, *const options_control;

/* Sets the defaults that differ between local mode and a cluster. */
void options_set_mode(struct options *o, bool local);

/* Reads the flags of argv, which may be reordered. Ends the process for --help and --version, and,
 * with one sentence on standard error and exit code 2, for flags that make no sense. */
void options_parse(struct options *o, int argc, char **argv);

/* Returns the home namespace: the given one, or else that of the credentials, or else that of the
 * manifests. NULL is allowed for both; the text lives as long as they do. */
const char *options_home(const char *given, const struct k8s *k8s);

/* Prints "tproxy: " and the text on standard error, and ends the process with exit code 2. */
void options_die(const char *fmt, ...) printf_like(1, 2) __attribute__((noreturn));

#endif

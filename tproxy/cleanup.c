/* Flags, the connection to the API server, what people read. tproxy/removal.c does the work. */
#include "tproxy/cleanup.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/lease.h"
#include "k8s.h"
#include "lib/dns.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "tproxy/limits.h"
#include "tproxy/options.h"
#include "tproxy/removal.h"

static const char usage[] =
    "tproxy cleanup - remove what an installation of tproxy has made in a cluster\n"
    "\n"
    "  tproxy cleanup [OPTION...]\n"
    "\n"
    "It removes the Services, NetworkPolicies, conditions, statuses, ConfigMaps and the Lease of\n"
    "one installation, and nothing of others. It leaves what the manifests have made: remove that\n"
    "afterwards with kubectl. End the installation first, or it makes everything anew:\n"
    "\n"
    "  kubectl -n NAME scale deployment -l app.kubernetes.io/name=tproxy --replicas=0\n"
    "\n"
    "  --dry-run              print what would be removed, in this order, and change nothing\n"
    "  --kube-url URL         the Kubernetes API (what the environment of a pod says);\n"
    "                         http://127.0.0.1:8001 for kubectl proxy\n"
    "  --kube-credentials DIR files token, ca.crt and namespace (those of the pod)\n"
    "  --namespace NAME       namespace of the installation (that of the credentials, else\n"
    "                         sap-transp-proxy-system)\n"
    "  --leader-elect-resource-name NAME  its Lease (tproxy)\n"
    "  --help\n"
    "\n"
    "Exit status: 0 everything is gone, 1 something stays, 2 wrong usage. It can be repeated.\n";

enum flag {
    FLAG_DRY_RUN = 256,
    FLAG_KUBE_URL,
    FLAG_KUBE_CREDENTIALS,
    FLAG_NAMESPACE,
    FLAG_LEASE_NAME,
    FLAG_HELP
};

static const struct option flags[] = {
    {"dry-run", no_argument, NULL, FLAG_DRY_RUN},
    {"kube-url", required_argument, NULL, FLAG_KUBE_URL},
    {"kube-credentials", required_argument, NULL, FLAG_KUBE_CREDENTIALS},
    {"namespace", required_argument, NULL, FLAG_NAMESPACE},
    {"leader-elect-resource-name", required_argument, NULL, FLAG_LEASE_NAME},
    {"help", no_argument, NULL, FLAG_HELP},
    {0},
};

struct cleanup {
    struct k8s_settings kube;
    const char *namespace; /* NULL: that of the credentials */
    const char *lease;
    bool dry_run;

    struct loop *loop;
    struct dns *dns;
    struct k8s *k8s;
    struct removal *removal;
    const char *home;
    int code;
};

static void parse(struct cleanup *c, int argc, char **argv)
{
    int flag;
    optind = 0; /* getopt begins anew */
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        switch (flag) {
        case FLAG_DRY_RUN:
            c->dry_run = true;
            break;
        case FLAG_KUBE_URL:
            c->kube.url = optarg;
            break;
        case FLAG_KUBE_CREDENTIALS:
            c->kube.credentials = optarg;
            break;
        case FLAG_NAMESPACE:
            c->namespace = optarg;
            break;
        case FLAG_LEASE_NAME:
            c->lease = optarg;
            break;
        case FLAG_HELP:
            fputs(usage, stdout);
            exit(0);
        default:
            options_die("see tproxy cleanup --help");
        }
    }
    if (optind < argc) {
        options_die("unknown argument %s; see tproxy cleanup --help", argv[optind]);
    }
}

/* ---- what people read ---- */

static void on_line(const char *text, void *arg)
{
    (void)arg;
    puts(text);
}

static void on_error(const char *text, void *arg)
{
    (void)arg;
    fprintf(stderr, "tproxy: %s\n", text);
}

static void end(struct cleanup *c, const struct removal_sum *sum)
{
    if (c->dry_run) {
        printf("%s: %zu would be removed; nothing was changed\n", c->home, sum->removed);
    } else {
        printf("%s: %zu removed, %zu gone already, %zu failed\n", c->home, sum->removed, sum->gone,
               sum->failed);
    }
    c->code = sum->failed > 0;
    loop_stop(c->loop);
}

static void on_over(const struct removal_sum *sum, void *arg)
{
    end(arg, sum);
}

static void on_signal(int signo, void *arg)
{
    struct cleanup *c = arg;
    struct removal_sum sum = removal_sum(c->removal);
    fprintf(stderr, "tproxy: %s: the rest stays; run cleanup again\n", strsignal(signo));
    end(c, &sum);
    c->code = 1;
}

/* ---- life ---- */

static void on_turn(void *arg)
{
    (void)arg;
    log_flush_wait();
}

static int follow_signals(struct cleanup *c, struct error *err)
{
    if (loop_on_signal(c->loop, SIGTERM, on_signal, c) != OK ||
        loop_on_signal(c->loop, SIGINT, on_signal, c) != OK) {
        return error_set(err, FAIL_INTERNAL, "signalfd");
    }
    signal(SIGPIPE, SIG_IGN); /* sockets; standard output is judged at the end */
    return OK;
}

static int start(struct cleanup *c, struct error *err)
{
    struct removal_handler handler = {
        .line = on_line, .error = on_error, .note = on_error, .over = on_over, .arg = c};
    c->loop = loop_new(err);
    if (!c->loop || follow_signals(c, err) != OK) {
        return ERR;
    }
    loop_set_hook(c->loop, on_turn, NULL);
    c->dns = dns_new(c->loop, OPTIONS_RESOLV_CONF, OPTIONS_HOSTS);
    c->k8s = k8s_new(c->loop, c->dns, &c->kube, err);
    if (!c->k8s) {
        return ERR;
    }
    c->home = options_home(c->namespace, c->k8s);
    struct removal_settings settings = {.home = c->home, .lease = c->lease, .dry_run = c->dry_run};
    c->removal = removal_new(c->loop, k8s_cluster(c->k8s), &settings, handler);
    return OK;
}

static void stop(struct cleanup *c)
{
    removal_free(c->removal);
    loop_turn(c->loop, false); /* frees the watches that have just ended */
    k8s_free(c->k8s);
    dns_free(c->dns);
    loop_turn(c->loop, false);
    loop_free(c->loop);
}

int cleanup_command(int argc, char **argv)
{
    struct cleanup c = {.lease = LEASE_NAME};
    struct error err;
    parse(&c, argc, argv);
    limits_forbid_core_dumps();
    log_open(STDERR_FILENO, LOG_FORMAT_TEXT);
    log_set_level(LOG_WARN);
    setvbuf(stdout, NULL, _IOLBF, 0); /* a line is there when its object is gone */
    if (start(&c, &err) != OK) {
        options_die("%s", err.text);
    }
    loop_run(c.loop);
    stop(&c);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("tproxy: standard output cannot be written\n", stderr);
        return 1;
    }
    return c.code;
}

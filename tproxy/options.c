/* One table of flags, one switch. */
#include "tproxy/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/lease.h"
#include "cluster/lease_record.h"
#include "k8s.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "local/object.h"

#ifndef TPROXY_VERSION
#define TPROXY_VERSION "unknown"
#endif

const char *const options_version = TPROXY_VERSION;
const char *const options_control = "tproxy";

static const char usage[] =
    "tproxy - a POP3 proxy that logs in for its clients\n"
    "\n"
    "  tproxy [OPTION...]                  in a Kubernetes cluster: serve its Destinations\n"
    "  tproxy --local DIR [OPTION...]      on one machine: serve what is in DIR/*.json\n"
    "  tproxy check FILE...                say what would become of files, and serve nothing\n"
    "  tproxy probe MAILBOX                have the running tproxy log in, and say how each step "
    "went\n"
    "  tproxy log-level [LEVEL]            show or change the log level of the running tproxy\n"
    "  tproxy cleanup                      remove what an installation in a cluster has made\n"
    "\n"
    "  --local DIR            directory of destinations as exported from the BTP cockpit, and of\n"
    "                         Destination, TransparentProxy and Secret objects\n"
    "  --kube-url URL         the Kubernetes API (what the environment of a pod says)\n"
    "  --kube-credentials DIR files token, ca.crt and namespace (those of the pod)\n"
    "  --namespace NAME       namespace of this installation (that of the credentials, else\n"
    "                         sap-transp-proxy-system)\n"
    "  --cluster-domain NAME  domain of the cluster's Services (what resolv.conf says, else\n"
    "                         cluster.local)\n"
    "  --claim WHICH          pop3: conditions for POP3 destinations alone; all: for every one "
    "(pop3)\n"
    "  --allow-loopback       mail servers on this machine are allowed (in local mode they are)\n"
    "  --listen ADDRESS       address of the targets (::, in local mode 127.0.0.1)\n"
    "  --target-ports A-B     their ports (16384-32767, in local mode 1110-2109); 0: whichever is\n"
    "                         free\n"
    "  --namespace-targets N  the most targets of one namespace (2000, in local mode 0); 0: as\n"
    "                         many as there are ports\n"
    "  --service-delay S      a new Service counts as working after so long (2, in local mode 0)\n"
    "  --leader-elect         other replicas run beside this one: the one that holds a Lease "
    "writes\n"
    "                         (off; the manifests switch it on)\n"
    "  --leader-elect-lease-duration S  others wait so long for a leader that is silent (15)\n"
    "  --leader-elect-renew-deadline S  a leader without a renewal for so long gives up (10)\n"
    "  --leader-elect-retry-period S  from one renewal, or attempt, to the next (2)\n"
    "  --leader-elect-resource-name NAME  the Lease, in the namespace of this installation "
    "(tproxy)\n"
    "  --admin ADDRESS:PORT   /healthz, /readyz, /status, /destinationCRs, /metrics ([::]:9494, "
    "in\n"
    "                         local mode 127.0.0.1:9494); off: none\n"
    "  --control NAME         name of the control socket (tproxy); off: none\n"
    "  --log-level LEVEL      trace, debug, info, warn, error or fatal (info); wins over the\n"
    "                         TransparentProxy object\n"
    "  --log-format FORMAT    json or text (json)\n"
    "  --ca-file FILE         trusted certificates, PEM (SSL_CERT_FILE, or the system's)\n"
    "  --resolv-conf FILE     name servers (/etc/resolv.conf)\n"
    "  --hosts FILE           names that are not asked for (/etc/hosts)\n"
    "  --login-timeout S      from the greeting to the login (60)\n"
    "  --answer-timeout S     for one answer of the mail server during the login (30)\n"
    "  --idle-timeout S       of a session without a byte (600)\n"
    "  --max-sessions N       at most half of them for one target (what descriptors and memory "
    "allow)\n"
    "  --drain-delay S        after SIGTERM, accept for so long (5, in local mode 0)\n"
    "  --grace S              then wait so long for sessions to end (60)\n"
    "  --version, --help\n";

enum flag {
    FLAG_LOCAL = 256,
    FLAG_KUBE_URL,
    FLAG_KUBE_CREDENTIALS,
    FLAG_NAMESPACE,
    FLAG_CLUSTER_DOMAIN,
    FLAG_CLAIM,
    FLAG_ALLOW_LOOPBACK,
    FLAG_LISTEN,
    FLAG_TARGET_PORTS,
    FLAG_NAMESPACE_TARGETS,
    FLAG_SERVICE_DELAY,
    FLAG_LEADER_ELECT,
    FLAG_LEASE_DURATION,
    FLAG_RENEW_DEADLINE,
    FLAG_RETRY_PERIOD,
    FLAG_LEASE_NAME,
    FLAG_ADMIN,
    FLAG_CONTROL,
    FLAG_LOG_LEVEL,
    FLAG_LOG_FORMAT,
    FLAG_CA_FILE,
    FLAG_RESOLV_CONF,
    FLAG_HOSTS,
    FLAG_LOGIN_TIMEOUT,
    FLAG_ANSWER_TIMEOUT,
    FLAG_IDLE_TIMEOUT,
    FLAG_MAX_SESSIONS,
    FLAG_DRAIN_DELAY,
    FLAG_GRACE,
    FLAG_VERSION,
    FLAG_HELP,
};

static const struct option flags[] = {
    {"local", required_argument, NULL, FLAG_LOCAL},
    {"kube-url", required_argument, NULL, FLAG_KUBE_URL},
    {"kube-credentials", required_argument, NULL, FLAG_KUBE_CREDENTIALS},
    {"namespace", required_argument, NULL, FLAG_NAMESPACE},
    {"cluster-domain", required_argument, NULL, FLAG_CLUSTER_DOMAIN},
    {"claim", required_argument, NULL, FLAG_CLAIM},
    {"allow-loopback", no_argument, NULL, FLAG_ALLOW_LOOPBACK},
    {"listen", required_argument, NULL, FLAG_LISTEN},
    {"target-ports", required_argument, NULL, FLAG_TARGET_PORTS},
    {"namespace-targets", required_argument, NULL, FLAG_NAMESPACE_TARGETS},
    {"service-delay", required_argument, NULL, FLAG_SERVICE_DELAY},
    {"leader-elect", no_argument, NULL, FLAG_LEADER_ELECT},
    {"leader-elect-lease-duration", required_argument, NULL, FLAG_LEASE_DURATION},
    {"leader-elect-renew-deadline", required_argument, NULL, FLAG_RENEW_DEADLINE},
    {"leader-elect-retry-period", required_argument, NULL, FLAG_RETRY_PERIOD},
    {"leader-elect-resource-name", required_argument, NULL, FLAG_LEASE_NAME},
    {"admin", required_argument, NULL, FLAG_ADMIN},
    {"control", required_argument, NULL, FLAG_CONTROL},
    {"log-level", required_argument, NULL, FLAG_LOG_LEVEL},
    {"log-format", required_argument, NULL, FLAG_LOG_FORMAT},
    {"ca-file", required_argument, NULL, FLAG_CA_FILE},
    {"resolv-conf", required_argument, NULL, FLAG_RESOLV_CONF},
    {"hosts", required_argument, NULL, FLAG_HOSTS},
    {"login-timeout", required_argument, NULL, FLAG_LOGIN_TIMEOUT},
    {"answer-timeout", required_argument, NULL, FLAG_ANSWER_TIMEOUT},
    {"idle-timeout", required_argument, NULL, FLAG_IDLE_TIMEOUT},
    {"max-sessions", required_argument, NULL, FLAG_MAX_SESSIONS},
    {"drain-delay", required_argument, NULL, FLAG_DRAIN_DELAY},
    {"grace", required_argument, NULL, FLAG_GRACE},
    {"version", no_argument, NULL, FLAG_VERSION},
    {"help", no_argument, NULL, FLAG_HELP},
    {0},
};

/* Defaults that both modes share; options_set_mode sets the others. */
static const struct options defaults = {
    .log_level = LOG_INFO,
    .log_format = LOG_FORMAT_JSON,
    .resolv_conf = OPTIONS_RESOLV_CONF,
    .hosts = OPTIONS_HOSTS,
    .grace = SECONDS(60),
    .lease_name = LEASE_NAME,
    .lease_duration = SECONDS(15),
    .renew_deadline = SECONDS(10),
    .retry_period = SECONDS(2),
    .pop3 = {.login_timeout = SECONDS(60),
             .answer_timeout = SECONDS(30),
             .idle_timeout = SECONDS(600)},
};

/* ---- values ---- */

void options_die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("tproxy: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(2);
}

static uint64_t number(const char *flag, const char *value, uint64_t least, uint64_t most)
{
    uint64_t n;
    if (text_number(str_of(value), most, &n) != OK || n < least) {
        options_die("--%s %s: a number from %llu to %llu is needed", flag, value,
                    (unsigned long long)least, (unsigned long long)most);
    }
    return n;
}

static int64_t seconds(const char *flag, const char *value, uint64_t least)
{
    return SECONDS(number(flag, value, least, 24 * 3600));
}

static void parse_ports(struct options *o, const char *value)
{
    struct str rest = str_of(value);
    struct str first = str_cut(&rest, '-');
    uint64_t a, b;
    if (str_eq(first, "0") && rest.n == 0) {
        o->first_port = o->last_port = 0;
        return;
    }
    if (text_number(first, 65535, &a) != OK || text_number(rest, 65535, &b) != OK || a == 0 ||
        b < a) {
        options_die("--target-ports %s: two ports A-B are needed, A not above B, or 0", value);
    }
    o->first_port = (uint16_t)a;
    o->last_port = (uint16_t)b;
}

static void parse_listen(struct options *o, const char *value)
{
    if (addr_parse(str_of(value), &o->listen) != OK) {
        options_die("--listen %s: an IP address is needed", value);
    }
}

static void parse_log_level(struct options *o, const char *value)
{
    if (log_level_parse(str_of(value), &o->log_level) != OK) {
        options_die("--log-level %s: trace, debug, info, warn, error or fatal", value);
    }
    o->log_level_given = true;
}

/* Reads one of two words. Returns true for the second. */
static bool choice(const char *flag, const char *value, const char *first, const char *second)
{
    if (strcmp(value, first) != 0 && strcmp(value, second) != 0) {
        options_die("--%s %s: %s or %s", flag, value, first, second);
    }
    return strcmp(value, second) == 0;
}

static const char *unless_off(const char *value)
{
    return strcmp(value, "off") == 0 ? NULL : value;
}

/* ---- flags ---- */

static void parse_flag(struct options *o, int flag, const char *name, const char *value)
{
    switch ((enum flag)flag) {
    case FLAG_LOCAL:
        o->local_dir = value;
        break;
    case FLAG_KUBE_URL:
        o->kube_url = value;
        break;
    case FLAG_KUBE_CREDENTIALS:
        o->credentials = value;
        break;
    case FLAG_NAMESPACE:
        o->namespace = value;
        break;
    case FLAG_CLUSTER_DOMAIN:
        o->domain = value;
        break;
    case FLAG_CLAIM:
        o->claim_all = choice(name, value, "pop3", "all");
        break;
    case FLAG_ALLOW_LOOPBACK:
        o->pop3.allow_local = true;
        break;
    case FLAG_LISTEN:
        parse_listen(o, value);
        break;
    case FLAG_TARGET_PORTS:
        parse_ports(o, value);
        break;
    case FLAG_NAMESPACE_TARGETS:
        o->namespace_targets = number(name, value, 0, 65535);
        break;
    case FLAG_SERVICE_DELAY:
        o->service_delay = seconds(name, value, 0);
        break;
    case FLAG_LEADER_ELECT:
        o->leader_elect = true;
        break;
    case FLAG_LEASE_DURATION:
        o->lease_duration = SECONDS(number(name, value, 1, LEASE_DURATION_MAX / SECONDS(1)));
        break;
    case FLAG_RENEW_DEADLINE:
        o->renew_deadline = seconds(name, value, 1);
        break;
    case FLAG_RETRY_PERIOD:
        o->retry_period = seconds(name, value, 1);
        break;
    case FLAG_LEASE_NAME:
        o->lease_name = value;
        break;
    case FLAG_ADMIN:
        o->admin = unless_off(value);
        break;
    case FLAG_CONTROL:
        o->control = unless_off(value);
        break;
    case FLAG_LOG_LEVEL:
        parse_log_level(o, value);
        break;
    case FLAG_LOG_FORMAT:
        o->log_format = choice(name, value, "json", "text") ? LOG_FORMAT_TEXT : LOG_FORMAT_JSON;
        break;
    case FLAG_CA_FILE:
        o->ca_file = value;
        break;
    case FLAG_RESOLV_CONF:
        o->resolv_conf = value;
        break;
    case FLAG_HOSTS:
        o->hosts = value;
        break;
    case FLAG_LOGIN_TIMEOUT:
        o->pop3.login_timeout = seconds(name, value, 1);
        break;
    case FLAG_ANSWER_TIMEOUT:
        o->pop3.answer_timeout = seconds(name, value, 1);
        break;
    case FLAG_IDLE_TIMEOUT:
        o->pop3.idle_timeout = seconds(name, value, 1);
        break;
    case FLAG_MAX_SESSIONS:
        o->pop3.max_sessions = number(name, value, 2, 1000000);
        break;
    case FLAG_DRAIN_DELAY:
        o->drain_delay = seconds(name, value, 0);
        break;
    case FLAG_GRACE:
        o->grace = seconds(name, value, 0);
        break;
    case FLAG_VERSION:
        puts("tproxy " TPROXY_VERSION);
        exit(0);
    case FLAG_HELP:
        fputs(usage, stdout);
        exit(0);
    }
}

/* Tells whether --local is given. It reads the flags beforehand as getopt does, because a name may
 * be shortened, and a value may look like a flag. */
static bool is_local(int argc, char **argv)
{
    bool local = false;
    int flag;
    opterr = 0;
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        local = local || flag == FLAG_LOCAL;
    }
    opterr = 1;
    optind = 0; /* getopt begins anew */
    return local;
}

/* Tells whether the kernel has IPv6. Without it "::" cannot be listened on. */
static bool has_ipv6(void)
{
    int fd = sys->socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        sys->close(fd);
    }
    return fd >= 0;
}

/* On a laptop, nobody else reaches the proxy, ports are typed by
 * people, and nobody has to learn of a Service, or of its end. */
void options_set_mode(struct options *o, bool local)
{
    bool v6 = has_ipv6();
    int rc = addr_parse(str_of(local ? "127.0.0.1" : v6 ? "::" : "0.0.0.0"), &o->listen);
    (void)rc; /* a literal always parses */
    o->first_port = local ? 1110 : 16384;
    o->last_port = local ? 2109 : 32767;
    o->admin = local ? "127.0.0.1:9494" : v6 ? "[::]:9494" : "0.0.0.0:9494";
    o->control = options_control;
    o->drain_delay = local ? 0 : SECONDS(5);
    o->service_delay = local ? 0 : SECONDS(2);
    o->pop3.allow_local = local;
    o->claim_all = local;
    o->namespace_targets = local ? 0 : 2000;
}

/* Checks what makes an election safe: a leader has given up before others may lead, and has time
 * for more than one renewal, with the jitter that client-go gives to its period. */
static void check_election(const struct options *o)
{
    if (o->local_dir && o->leader_elect) {
        options_die("--leader-elect and --local: replicas elect a leader only in a cluster");
    }
    if (o->renew_deadline >= o->lease_duration) {
        options_die(
            "--leader-elect-renew-deadline must be less than --leader-elect-lease-duration");
    }
    if (o->retry_period * 6 / 5 >= o->renew_deadline) {
        options_die("--leader-elect-renew-deadline must be more than 1.2 times "
                    "--leader-elect-retry-period");
    }
}

void options_parse(struct options *o, int argc, char **argv)
{
    int flag, index = 0;
    *o = defaults;
    options_set_mode(o, is_local(argc, argv));
    while ((flag = getopt_long(argc, argv, "", flags, &index)) != -1) {
        if (flag == '?') {
            options_die("see tproxy --help");
        }
        parse_flag(o, flag, flags[index].name, optarg);
    }
    if (optind < argc) {
        options_die("unknown command %s; see tproxy --help", argv[optind]);
    }
    if (o->local_dir && (o->kube_url || o->credentials)) {
        options_die("--local and --kube-url are two ways to run: give one of them");
    }
    check_election(o);
}

const char *options_home(const char *given, const struct k8s *k8s)
{
    const char *home = given || !k8s ? given : k8s_namespace(k8s);
    return home ? home : LOCAL_HOME;
}

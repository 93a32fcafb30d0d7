/* The resolver: it decides where a name is looked up, in which order and under which full name, and
 * what is remembered.
 *
 *   dns_resolve -> (task) -> literal? localhost? hosts file? remembered? --> done
 *                                     | no
 *                                     v
 *                          entry: one name, asked or remembered; all queries for it wait at it
 *                                     |    ^
 *                        dns_ask of a |    | no such name, no address: with the next domain
 *                          candidate  v    | of the search list
 *                                  on_asked -> conclude --> done for every query
 *
 * An entry under way is only in the table; a remembered one is also on the list `oldest_first`. */
#include "lib/dns.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/dns_ask.h"
#include "lib/list.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/resolv_conf.h"
#include "lib/sys.h"

enum {
    BUCKETS = 256,
    REMEMBERED_MAX = 1024,
    FILE_MAX = 1 << 20,                /* files are read up to this many bytes */
    QUERY_NAME_MAX = DNS_NAME_MAX + 2, /* one byte too many shows that a name is too long */
};

/* Limits of how long an answer is remembered, whatever the server says, seconds. */
enum { TTL_MIN = 1, TTL_MAX = 3600, NEGATIVE_TTL_MAX = 60 };

/* The files are checked for changes at most this often. */
#define FILE_CHECK_INTERVAL SECONDS(2)

/* Limit for one name with all its candidates, servers and rounds. */
#define ENTRY_TIME SECONDS(30)

struct watched_file {
    char *path;
    struct stat seen; /* zero: no such file */
};

struct dns {
    struct loop *loop;
    struct watched_file conf_file, hosts_file;
    int64_t next_check;
    unsigned generation; /* counts the versions of resolv.conf */
    struct resolv_conf conf;
    struct hosts hosts;
    unsigned rotation;
    struct list starting; /* queries that are not yet looked at */
    struct list buckets[BUCKETS];
    struct list oldest_first;
    size_t remembered;
};

struct dns_query {
    struct dns *dns;
    struct entry *entry; /* the entry that it waits at; NULL while it is starting */
    struct list link;
    struct task task;
    struct dns_handler handler;
    char name[]; /* as given */
};

struct entry {
    struct dns *dns;
    struct list bucket, age;
    struct list queries;

    /* under way */
    struct dns_ask *ask;
    struct timer timer;
    int64_t started;
    unsigned generation;
    size_t candidate;
    bool exists; /* a candidate exists, but has no address */
    char problem[sizeof(((struct dns_asked *)0)->problem)]; /* how a server failed, or empty */

    /* remembered, until `expires` */
    int64_t expires;
    enum dns_outcome outcome;
    uint32_t ttl;
    size_t n;
    union addr *addrs;

    char name[]; /* lower case */
};

/* ---- files ---- */

static void *load(const char *path, size_t *n)
{
    char *text = NULL;
    size_t cap = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = 1;
    *n = 0;
    while (fd >= 0 && got > 0 && *n < FILE_MAX) {
        if (*n == cap) {
            cap = cap ? cap * 2 : 4096;
            text = mem_realloc(text, cap);
        }
        got = read(fd, text + *n, cap - *n);
        *n += got > 0 ? (size_t)got : 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    return text;
}

static bool has_changed(struct watched_file *file)
{
    struct stat now;
    if (stat(file->path, &now) != 0) {
        memset(&now, 0, sizeof(now));
    }
    struct stat *was = &file->seen;
    bool changed = was->st_ino != now.st_ino || was->st_dev != now.st_dev ||
                   was->st_size != now.st_size || was->st_mtim.tv_sec != now.st_mtim.tv_sec ||
                   was->st_mtim.tv_nsec != now.st_mtim.tv_nsec;
    *was = now;
    return changed;
}

static void forget(struct entry *e);

/* Answers that were learned under another resolv.conf are not valid any more. */
static void forget_all(struct dns *dns)
{
    LIST_EACH (it, &dns->oldest_first) {
        forget(container_of(it, struct entry, age));
    }
}

static void read_conf(struct dns *dns)
{
    size_t n;
    char *text = load(dns->conf_file.path, &n);
    resolv_conf_parse(&dns->conf, (struct str){text ? text : "", n});
    free(text);
    dns->generation++;
    forget_all(dns);
    log_line(LOG_DEBUG, "dns", "read %s: %zu name servers, the first is %s, %zu search domains",
             dns->conf_file.path, dns->conf.server_count,
             resolv_server_text(&dns->conf.servers[0]).s, dns->conf.search_count);
}

static void read_hosts(struct dns *dns)
{
    size_t n;
    char *text = load(dns->hosts_file.path, &n);
    hosts_parse(&dns->hosts, (struct str){text ? text : "", n});
    free(text);
    log_line(LOG_DEBUG, "dns", "read %s: %zu names", dns->hosts_file.path, dns->hosts.count);
}

static void follow_files(struct dns *dns)
{
    int64_t now = loop_now(dns->loop);
    if (now < dns->next_check) {
        return;
    }
    dns->next_check = now + FILE_CHECK_INTERVAL;
    if (has_changed(&dns->conf_file)) {
        read_conf(dns);
    }
    if (has_changed(&dns->hosts_file)) {
        read_hosts(dns);
    }
}

/* ---- answers to those who asked ---- */

static void free_query(struct task *t)
{
    free(container_of(t, struct dns_query, task));
}

static void end_query(struct dns_query *q)
{
    list_remove(&q->link);
    loop_bury(q->dns->loop, &q->task, free_query);
}

static void answer_query(struct dns_query *q, const struct dns_result *result)
{
    struct dns_handler handler = q->handler;
    end_query(q);
    handler.done(result, handler.arg);
}

static void set_addrs(struct dns_result *result, const union addr *addrs, size_t n)
{
    result->n = addr_interleave(result->addrs, DNS_MAX_ADDRS, addrs, n);
    result->err = (struct error){0};
}

/* Writes the servers as "10.0.0.1, 10.0.0.2". */
static void list_servers(const struct resolv_conf *conf, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < conf->server_count; i++) {
        n += text_fmt(out + n, cap - n, "%s%s", i ? ", " : "",
                      resolv_server_text(&conf->servers[i]).s);
    }
}

static void set_server_failure(const struct entry *e, struct dns_result *result)
{
    const struct resolv_conf *conf = &e->dns->conf;
    char servers[RESOLV_MAX_SERVERS * ADDR_TEXT_MAX];
    if (e->problem[0]) {
        error_set(&result->err, FAIL_DNS, "%s for host \"%s\"", e->problem, e->name);
        return;
    }
    list_servers(conf, servers, sizeof(servers));
    error_set(&result->err, FAIL_DNS,
              "no answer from name server%s %s for host \"%s\" within %lld s",
              conf->server_count > 1 ? "s" : "", servers, e->name,
              (long long)((loop_now(e->dns->loop) - e->started + SECONDS(1) / 2) / SECONDS(1)));
}

static void result_of(const struct entry *e, struct dns_result *result)
{
    result->n = 0;
    switch (e->outcome) {
    case DNS_ADDRESSES:
        set_addrs(result, e->addrs, e->n);
        break;
    case DNS_NO_NAME:
        error_set(&result->err, FAIL_DNS, "host \"%s\" does not exist (NXDOMAIN)", e->name);
        break;
    case DNS_NO_ADDRESS:
        error_set(&result->err, FAIL_DNS, "host \"%s\" has no address", e->name);
        break;
    case DNS_TRUNCATED:
    case DNS_SERVER_FAILED:
        set_server_failure(e, result);
        break;
    }
}

/* ---- entries ---- */

static struct list *bucket_of(struct dns *dns, const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *p = name; *p; p++) {
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    }
    return &dns->buckets[(hash ^ hash >> 16) % BUCKETS];
}

static struct entry *find_entry(struct dns *dns, const char *name)
{
    LIST_EACH (it, bucket_of(dns, name)) {
        struct entry *e = container_of(it, struct entry, bucket);
        if (strcmp(e->name, name) == 0) {
            return e;
        }
    }
    return NULL;
}

static struct entry *new_entry(struct dns *dns, const char *name)
{
    size_t size = strlen(name) + 1;
    struct entry *e = mem_zalloc(sizeof(*e) + size);
    e->dns = dns;
    memcpy(e->name, name, size);
    list_init(&e->bucket);
    list_init(&e->age);
    list_init(&e->queries);
    list_append(bucket_of(dns, name), &e->bucket);
    return e;
}

static void forget(struct entry *e)
{
    if (!list_empty(&e->age)) {
        list_remove(&e->age);
        e->dns->remembered--;
    }
    timer_cancel(e->dns->loop, &e->timer);
    dns_ask_cancel(e->ask);
    list_remove(&e->bucket);
    free(e->addrs);
    free(e);
}

static void remember(struct entry *e)
{
    struct dns *dns = e->dns;
    list_append(&dns->oldest_first, &e->age);
    if (++dns->remembered > REMEMBERED_MAX) {
        forget(container_of(dns->oldest_first.next, struct entry, age));
    }
}

static int64_t lifetime(const struct entry *e)
{
    int64_t ttl = e->ttl;
    if (e->outcome == DNS_SERVER_FAILED || e->generation != e->dns->generation) {
        return 0;
    }
    if (e->outcome != DNS_ADDRESSES) {
        return SECONDS(ttl < NEGATIVE_TTL_MAX ? ttl : NEGATIVE_TTL_MAX);
    }
    ttl = ttl < TTL_MAX ? ttl : TTL_MAX;
    return SECONDS(ttl > TTL_MIN ? ttl : TTL_MIN);
}

/* Tells the outcome to every query that waits, then remembers or frees the entry. */
static void conclude(struct entry *e)
{
    struct dns_result result;
    timer_cancel(e->dns->loop, &e->timer);
    e->expires = loop_now(e->dns->loop) + lifetime(e);
    result_of(e, &result);
    while (!list_empty(&e->queries)) {
        answer_query(container_of(e->queries.next, struct dns_query, link), &result);
    }
    if (e->expires > loop_now(e->dns->loop)) {
        remember(e);
    } else {
        forget(e);
    }
}

/* ---- the search list, resolv.conf(5) ---- */

static unsigned count_dots(const char *name)
{
    unsigned n = 0;
    for (const char *p = name; *p; p++) {
        n += *p == '.';
    }
    return n;
}

/* Writes candidate number i for a name: the name as it is, and before or behind that the name with
 * each search domain. AGAIN: this one would be too long. ERR: there are no more. */
static int candidate(const struct resolv_conf *conf, const char *name, size_t i,
                     char out[DNS_NAME_MAX + 2])
{
    size_t n = strlen(name);
    bool complete = name[n - 1] == '.';
    bool first_as_is = complete || count_dots(name) >= conf->ndots;
    size_t as_is = first_as_is ? 0 : conf->search_count;
    if (i > (complete ? 0 : conf->search_count)) {
        return ERR;
    }
    if (i == as_is) {
        text_fmt(out, DNS_NAME_MAX + 2, "%s", name);
        return OK;
    }
    const char *domain = conf->search[first_as_is ? i - 1 : i];
    if (n + 1 + strlen(domain) > DNS_NAME_MAX) {
        return AGAIN;
    }
    text_fmt(out, DNS_NAME_MAX + 2, "%s.%s", name, domain);
    return OK;
}

static void on_asked(const struct dns_asked *asked, void *arg);

/* Asks for the next candidate, or concludes when there is none. */
static void ask_next(struct entry *e)
{
    struct dns *dns = e->dns;
    char name[DNS_NAME_MAX + 2];
    int rc = AGAIN;
    while (rc == AGAIN) {
        rc = candidate(&dns->conf, e->name, e->candidate++, name);
    }
    if (rc == OK) {
        struct dns_ask_handler handler = {.done = on_asked, .arg = e};
        unsigned first = dns->conf.rotate ? dns->rotation++ : 0;
        e->ask = dns_ask_start(dns->loop, &dns->conf, first, name, handler);
        return;
    }
    e->outcome = e->exists ? DNS_NO_ADDRESS : DNS_NO_NAME;
    if (e->problem[0]) {
        e->outcome = DNS_SERVER_FAILED;
    }
    conclude(e);
}

static void on_asked(const struct dns_asked *asked, void *arg)
{
    struct entry *e = arg;
    e->ask = NULL;
    e->ttl = asked->ttl < e->ttl ? asked->ttl : e->ttl;
    switch (asked->outcome) {
    case DNS_ADDRESSES:
        e->outcome = DNS_ADDRESSES;
        e->ttl = asked->ttl;
        e->n = asked->n;
        e->addrs = mem_alloc(asked->n * sizeof(*e->addrs));
        memcpy(e->addrs, asked->addrs, asked->n * sizeof(*e->addrs));
        conclude(e);
        return;
    case DNS_NO_ADDRESS:
        e->exists = true;
        break;
    case DNS_NO_NAME:
        break;
    case DNS_TRUNCATED:
    case DNS_SERVER_FAILED:
        if (!asked->problem[0]) {
            /* Servers that are silent now would be silent for every search domain. */
            e->outcome = DNS_SERVER_FAILED;
            e->problem[0] = '\0';
            conclude(e);
            return;
        }
        memcpy(e->problem, asked->problem, sizeof(e->problem));
        break;
    }
    ask_next(e);
}

static void on_entry_timeout(struct timer *t)
{
    struct entry *e = container_of(t, struct entry, timer);
    dns_ask_cancel(e->ask);
    e->ask = NULL;
    e->outcome = DNS_SERVER_FAILED;
    conclude(e);
}

static void start_entry(struct entry *e)
{
    struct dns *dns = e->dns;
    e->started = loop_now(dns->loop);
    e->generation = dns->generation;
    e->ttl = UINT32_MAX;
    timer_set(dns->loop, &e->timer, e->started + ENTRY_TIME, on_entry_timeout);
    ask_next(e);
}

/* ---- queries ---- */

static bool is_localhost(const char *name)
{
    struct str s = str_of(name);
    static const char suffix[] = ".localhost";
    size_t n = sizeof(suffix) - 1;
    if (s.n && s.p[s.n - 1] == '.') {
        s.n--;
    }
    return str_ieq(s, "localhost") || (s.n > n && str_ieq((struct str){s.p + s.n - n, n}, suffix));
}

/* Answers without a name server where that is possible. AGAIN: a name server has to be asked. */
static int answer_at_once(struct dns *dns, const char *name, struct dns_result *result)
{
    union addr addrs[2 * DNS_MAX_ADDRS];
    size_t n = 0;
    result->n = 0;
    if (addr_parse(str_of(name), &addrs[0]) == OK) {
        n = 1;
    } else if (!dns_name_valid(name)) {
        char shown[128];
        text_printable(shown, sizeof(shown), str_of(name));
        error_set(&result->err, FAIL_CONFIG, "\"%s\" is neither a host name nor an IP address",
                  shown);
        return OK;
    } else if (is_localhost(name)) {
        addrs[n++] = addr_v6(&in6addr_loopback);
        addrs[n++] = addr_v4(&(uint32_t){htonl(INADDR_LOOPBACK)});
    } else {
        n = hosts_find(&dns->hosts, name, addrs, ARRAY_LEN(addrs));
    }
    set_addrs(result, addrs, n);
    return n ? OK : AGAIN;
}

static void lower_case(char *out, size_t cap, const char *name)
{
    text_fmt(out, cap, "%s", name);
    for (char *p = out; *p; p++) {
        if (*p >= 'A' && *p <= 'Z') {
            *p = (char)(*p + ('a' - 'A'));
        }
    }
}

static void wait_at_entry(struct dns *dns, struct dns_query *q)
{
    struct dns_result result;
    char name[QUERY_NAME_MAX];
    lower_case(name, sizeof(name), q->name);
    struct entry *e = find_entry(dns, name);
    if (e && !e->ask && e->expires > loop_now(dns->loop)) {
        list_remove(&e->age);
        list_append(&dns->oldest_first, &e->age);
        result_of(e, &result);
        answer_query(q, &result);
        return;
    }
    if (e && !e->ask) {
        forget(e);
        e = NULL;
    }
    bool is_new = !e;
    if (is_new) {
        e = new_entry(dns, name);
    }
    list_remove(&q->link);
    list_append(&e->queries, &q->link);
    q->entry = e;
    if (is_new) {
        start_entry(e);
    }
}

static void on_query(struct task *t)
{
    struct dns_query *q = container_of(t, struct dns_query, task);
    struct dns *dns = q->dns;
    struct dns_result result;
    follow_files(dns);
    if (answer_at_once(dns, q->name, &result) == OK) {
        answer_query(q, &result);
    } else {
        wait_at_entry(dns, q);
    }
}

struct dns_query *dns_resolve(struct dns *dns, const char *name, struct dns_handler handler)
{
    size_t n = strnlen(name, QUERY_NAME_MAX);
    struct dns_query *q = mem_zalloc(sizeof(*q) + n + 1);
    q->dns = dns;
    q->handler = handler;
    memcpy(q->name, name, n);
    list_init(&q->link);
    list_append(&dns->starting, &q->link);
    task_init(&q->task);
    loop_soon(dns->loop, &q->task, on_query);
    return q;
}

void dns_cancel(struct dns_query *q)
{
    if (!q) {
        return;
    }
    struct entry *e = q->entry;
    end_query(q);
    if (e && e->ask && list_empty(&e->queries)) {
        forget(e);
    }
}

/* ---- the resolver ---- */

struct dns *dns_new(struct loop *loop, const char *resolv_conf, const char *hosts)
{
    struct dns *dns = mem_zalloc(sizeof(*dns));
    dns->loop = loop;
    dns->conf_file.path = mem_strdup(resolv_conf);
    dns->hosts_file.path = mem_strdup(hosts);
    list_init(&dns->starting);
    list_init(&dns->oldest_first);
    for (size_t i = 0; i < BUCKETS; i++) {
        list_init(&dns->buckets[i]);
    }
    resolv_conf_parse(&dns->conf, str_of(""));
    follow_files(dns);
    sys->random(&dns->rotation, sizeof(dns->rotation));
    return dns;
}

void dns_free(struct dns *dns)
{
    if (!dns) {
        return;
    }
    while (!list_empty(&dns->starting)) {
        dns_cancel(container_of(dns->starting.next, struct dns_query, link));
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        LIST_EACH (it, &dns->buckets[i]) {
            struct entry *e = container_of(it, struct entry, bucket);
            while (!list_empty(&e->queries)) {
                struct dns_query *q = container_of(e->queries.next, struct dns_query, link);
                q->entry = NULL;
                dns_cancel(q);
            }
            forget(e);
        }
    }
    hosts_free(&dns->hosts);
    free(dns->conf_file.path);
    free(dns->hosts_file.path);
    free(dns);
}

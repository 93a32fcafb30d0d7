/* The world of a controller under test: ports, destinations, and progress. */
#include "tests/unit/world/controller.h"

struct dest_request {
    struct list link;
    const struct replica *of;
    char *name, *instance, *tenant;
    struct dest_handler handler;
};

struct world world;
struct replica *replica;

/* ---- random numbers, ports ---- */

static uint64_t world_random(void)
{
    world.chance ^= world.chance << 13;
    world.chance ^= world.chance >> 7;
    world.chance ^= world.chance << 17;
    return world.chance;
}

size_t world_rand(size_t n)
{
    return (size_t)(world_random() >> 16) % n;
}

static void fake_random(void *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((unsigned char *)out)[i] = (unsigned char)(world_random() >> 24);
    }
}

/* Returns the replica that has the address: 127.0.0.1 is that of the first one. */
static struct replica *replica_at(const struct sockaddr_in *at)
{
    uint32_t number = ntohl(at->sin_addr.s_addr) - INADDR_LOOPBACK;
    assert_in_range(number, 0, FAKE_CLIENTS - 1);
    return &world.replicas[number];
}

static int fake_socket(int domain, int type, int protocol)
{
    if (world.next_pretended && domain == AF_INET) {
        return world.next_pretended++;
    }
    return socket(domain, type, protocol);
}

static bool is_pretended(int fd)
{
    return fd >= PRETENDED;
}

static int fake_setsockopt(int fd, int level, int name, const void *value, socklen_t n)
{
    return is_pretended(fd) ? 0 : setsockopt(fd, level, name, value, n);
}

static int fake_bind(int fd, const struct sockaddr *addr, socklen_t n)
{
    struct sockaddr_in free_one = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct sockaddr_in *at = (const void *)addr;
    uint16_t port = ntohs(at->sin_port);
    assert_int_equal(addr->sa_family, AF_INET);
    struct replica *of = replica_at(at);
    if (of->refuses[port] || of->listeners[port]) {
        errno = of->refuses[port] ? of->refuses[port] : EADDRINUSE;
        return -1;
    }
    of->listeners[port] = fd;
    world.bound[fd] = port;
    world.bound_for[fd] = of;
    return is_pretended(fd) ? 0 : bind(fd, (struct sockaddr *)&free_one, n);
}

static int fake_listen(int fd, int backlog)
{
    return is_pretended(fd) ? 0 : listen(fd, backlog);
}

static int fake_getsockname(int fd, struct sockaddr *addr, socklen_t *n)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(world.bound[fd])};
    if (!world.bound[fd]) {
        return getsockname(fd, addr, n);
    }
    memcpy(addr, &at, sizeof(at));
    return 0;
}

static int fake_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    return is_pretended(fd) ? 0 : epoll_ctl(epfd, op, fd, event);
}

static int fake_close(int fd)
{
    if (world.bound_for[fd]) {
        world.bound_for[fd]->listeners[world.bound[fd]] = 0;
        world.bound_for[fd] = NULL;
    }
    world.bound[fd] = 0;
    return is_pretended(fd) ? 0 : close(fd);
}

size_t count_listeners(void)
{
    size_t n = 0;
    for (unsigned port = 0; port < ALL_PORTS; port++) {
        n += replica->listeners[port] != 0;
    }
    return n;
}

int dial_port(uint16_t port)
{
    struct sockaddr_in at;
    socklen_t n = sizeof(at);
    assert_int_not_equal(replica->listeners[port], 0);
    assert_int_equal(getsockname(replica->listeners[port], (struct sockaddr *)&at, &n), 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, n), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* ---- destinations ---- */

static struct known *find_known(const char *name)
{
    for (size_t i = 0; i < WORLD_DESTINATIONS; i++) {
        if (strcmp(world.known[i].name, name) == 0) {
            return &world.known[i];
        }
    }
    return NULL;
}

static struct known *know(const char *name)
{
    struct known *k = find_known(name);
    k = k ? k : find_known("");
    assert_non_null(k);
    text_fmt(k->name, sizeof(k->name), "%s", name);
    destination_unref(k->dest);
    k->dest = NULL;
    k->verdict = VERDICT_NOT_FOUND;
    return k;
}

const struct destination *make_destination(const char *name, const char *protocol, const char *host)
{
    char text[512];
    struct destination_problem problem;
    text_fmt(text, sizeof(text),
             "{'Name':'%s','Type':'MAIL','ProxyType':'Internet','mail.user':'u',"
             "'mail.password':'p','mail.transport.protocol':'%s','mail.%s.host':'%s'}",
             name, protocol, protocol, host);
    struct object o = object_of(text);
    struct properties *properties = properties_from_json(o.root, NULL);
    const struct destination *dest = destination_new(properties, true, &problem);
    assert_non_null(dest);
    properties_free(properties);
    object_free(&o);
    return dest;
}

void serve_at(const char *name, const char *protocol, const char *host)
{
    struct known *k = know(name);
    k->dest = make_destination(name, protocol, host);
    k->verdict = VERDICT_OK;
}

void serve(const char *name)
{
    serve_at(name, "pop3", "mail.example.com");
}

void refuse(const char *name, enum verdict verdict)
{
    know(name)->verdict = verdict;
}

static struct dest_request *fake_dest_find(struct dest_source *source, const struct dest_ref *ref,
                                           enum dest_purpose purpose, const struct dest_user *user,
                                           struct dest_handler handler)
{
    struct dest_request *r = mem_zalloc(sizeof(*r));
    r->of = container_of(source, struct replica, source);
    assert_null(user);
    assert_true(r->of->leads || purpose != DEST_TO_CHECK);
    world.finds += purpose == DEST_TO_CHECK;
    text_fmt(world.asked, sizeof(world.asked), "%s", ref->instance ? ref->instance : "");
    r->name = mem_strdup(ref->name);
    r->instance = ref->instance ? mem_strdup(ref->instance) : NULL;
    r->tenant = ref->tenant ? mem_strdup(ref->tenant) : NULL;
    r->handler = handler;
    list_append(&world.requests, &r->link);
    world.waiting++;
    world.most_waiting = world.waiting > world.most_waiting ? world.waiting : world.most_waiting;
    return r;
}

static void free_request(struct dest_request *r)
{
    list_remove(&r->link);
    world.waiting--;
    free(r->name);
    free(r->instance);
    free(r->tenant);
    free(r);
}

static void fake_dest_cancel(struct dest_source *source, struct dest_request *r)
{
    if (r) {
        assert_ptr_equal(source, &r->of->source);
        free_request(r);
    }
}

/* Returns the destination of all tenants, unless one is known for this tenant. */
static const struct known *find_of_tenant(const struct dest_request *r)
{
    char name[128];
    text_fmt(name, sizeof(name), "%s@%s", r->name, r->tenant ? r->tenant : "");
    const struct known *k = find_known(name);
    return k ? k : find_known(r->name);
}

static void answer_request(struct dest_request *r)
{
    struct dest_handler handler = r->handler;
    const struct known *k = find_of_tenant(r);
    struct dest_answer answer = {.dest = k ? k->dest : world.any,
                                 .verdict = k           ? k->verdict
                                            : world.any ? VERDICT_OK
                                                        : VERDICT_NOT_FOUND};
    if (!answer.dest) {
        if (world.wordy) {
            error_set(&answer.err, FAIL_REMOTE, "it does not serve (500: request %u)", world.finds);
        } else {
            error_set(&answer.err, FAIL_CONFIG, "the test says no");
        }
    }
    free_request(r);
    handler.done(&answer, handler.arg);
}

/* ---- progress ---- */

static size_t world_choices(void)
{
    return fake_choices() + (world.source_mute ? 0 : world.waiting);
}

bool world_deed(void)
{
    size_t n = 0;
    if (world.shuffled) {
        size_t choices = world_choices();
        n = choices ? world_rand(choices) : 0;
    }
    size_t of_cluster = world.shuffled ? fake_choices() : 0;
    if (fake_pick(n)) {
        return true;
    }
    n -= of_cluster;
    LIST_EACH (it, &world.requests) {
        struct dest_request *r = container_of(it, struct dest_request, link);
        const char *asked = r->tenant ? r->tenant : r->name;
        bool hangs = world.hangs && strcmp(asked, world.hangs) == 0;
        if (!world.source_mute && !hangs && n-- == 0) {
            answer_request(r);
            return true;
        }
    }
    return false;
}

void settle(void)
{
    uint64_t deeds = 0;
    for (int quiet = 0; quiet < WORLD_QUIET; quiet++) {
        loop_turn(world.loop, false);
        for (bool more = world_deed(); more; more = !world.shuffled && world_deed()) {
            quiet = 0;
            if (++deeds > world.deeds_max) {
                fail_msg("it does not come to rest; the last calls:\n%.400s",
                         buf_str(&fake.journal).p + buf_len(&fake.journal) -
                             (buf_len(&fake.journal) < 400 ? buf_len(&fake.journal) : 400));
            }
        }
    }
}

void pass(int64_t time)
{
    settle();
    test_now += time;
    settle();
}

void pass_slowly(int64_t time, int64_t step)
{
    for (int64_t t = 0; t < time; t += step) {
        pass(step);
    }
}

/* ---- the controller ---- */

static void on_configured(const struct config *config, void *arg)
{
    assert_ptr_equal(arg, &world);
    world.configured++;
    world.instances = config->n_instances;
}

static void on_changed(const struct controller_report *report, void *arg)
{
    assert_ptr_equal(arg, &world);
    world.changed++;
    text_fmt(world.last, sizeof(world.last), "%s/%s %s %d", report->namespace, report->name,
             report->condition->reason, report->port);
}

static void on_gone(const char *namespace, const char *name, void *arg)
{
    assert_ptr_equal(arg, &world);
    world.gone++;
    text_fmt(world.last, sizeof(world.last), "%s/%s gone", namespace, name);
}

/* Creates the parts of a process that runs a controller. */
static void make_replica(struct replica *of)
{
    struct error err;
    struct pop3_settings config = {.login_timeout = SECONDS(60),
                                   .answer_timeout = SECONDS(30),
                                   .idle_timeout = SECONDS(600),
                                   .max_sessions = 100,
                                   .allow_local = true};
    of->source = (struct dest_source){.find = fake_dest_find, .cancel = fake_dest_cancel};
    of->oauth = oauth_new(world.loop, world.dns, NULL);
    of->connectivity = connectivity_new(world.loop, of->oauth);
    of->dest = dest_new(world.loop, world.dns, of->oauth, of->connectivity, NULL, true);
    of->pop3 = pop3_new(world.loop, world.dns, NULL, &config, &err);
    assert_non_null(of->pop3);
}

void world_use(size_t number)
{
    assert_in_range(number, 0, FAKE_CLIENTS - 1);
    replica = &world.replicas[number];
    if (!replica->oauth) {
        make_replica(replica);
    }
}

void start_follower(void)
{
    size_t number = (size_t)(replica - world.replicas);
    struct controller_parts parts = {.cluster = &fake.faces[number],
                                     .source = &replica->source,
                                     .dest = replica->dest,
                                     .oauth = replica->oauth,
                                     .connectivity = replica->connectivity,
                                     .pop3 = replica->pop3};
    struct controller_handler handler = {
        .configured = on_configured, .changed = on_changed, .gone = on_gone, .arg = &world};
    struct controller_settings settings = world.settings;
    char listen[32];
    text_fmt(listen, sizeof(listen), "127.0.0.%zu", number + 1);
    assert_int_equal(addr_parse(str_of(listen), &settings.listen), OK);
    assert_null(replica->controller);
    replica->leads = !settings.in_cluster;
    replica->controller = controller_new(world.loop, &parts, &settings, handler);
}

void world_lead(bool leads)
{
    replica->leads = leads;
    controller_lead(replica->controller, leads);
}

void start_controller(void)
{
    start_follower();
    world_lead(true);
}

static bool asks(const struct replica *of)
{
    LIST_EACH (it, &world.requests) {
        if (container_of(it, struct dest_request, link)->of == of) {
            return true;
        }
    }
    return false;
}

void stop_controller(void)
{
    controller_stop(replica->controller);
    assert_false(fake_serves((size_t)(replica - world.replicas)));
    assert_false(asks(replica));
    controller_free(replica->controller);
    replica->controller = NULL;
    pop3_abort(replica->pop3);
    loop_turn(world.loop, false);
    assert_int_equal(count_listeners(), 0);
}

void restart_controller(void)
{
    stop_controller();
    start_controller();
}

void world_forget_journal(void)
{
    buf_drop(&fake.journal, buf_len(&fake.journal));
    memset(fake.calls_made, 0, sizeof(fake.calls_made));
}

void check_calls(const char *lines, const char *file, int line)
{
    struct str got = buf_str(&fake.journal);
    if (!str_eq(got, lines)) {
        print_error("these calls have been made:\n%.*sand not:\n%s", STR_ARG(got), lines);
        _fail(file, line);
    }
    world_forget_journal();
}

unsigned count_calls(const char *start)
{
    unsigned n = 0;
    for (struct str rest = buf_str(&fake.journal); rest.n;) {
        struct str line = str_cut(&rest, '\n');
        n += line.n >= strlen(start) && strncmp(line.p, start, strlen(start)) == 0;
    }
    return n;
}

unsigned calls_made(void)
{
    unsigned n = 0;
    for (size_t i = 0; i < FAKE_VERBS; i++) {
        n += fake.calls_made[i];
    }
    return n;
}

/* ---- objects ---- */

void put_namespace(const char *name)
{
    fake_put("Namespace", "", name, "{}");
}

void put_cr(const char *namespace, const char *name, const char *destination, const char *more)
{
    char text[1024];
    text_fmt(text, sizeof(text), "{'spec':{'destinationRef':{'name':'%s'}%s}}", destination, more);
    fake_put("Destination", namespace, name, text);
}

void put_tenants(const char *namespace, const char *name, const char *annotation)
{
    char text[1024];
    text_fmt(text, sizeof(text),
             "{'metadata':{'annotations':{'transparent-proxy.connectivity.api.sap/"
             "tenant-subdomains':%s%s%s}}}",
             annotation ? "'" : "", annotation ? annotation : "null", annotation ? "'" : "");
    fake_put("Destination", namespace, name, text);
}

void configure(const char *spec)
{
    char text[4096];
    text_fmt(text, sizeof(text), "{'spec':{%s}}", spec);
    if (fake_find("TransparentProxy", HOME, "transparent-proxy")) {
        fake_put("TransparentProxy", HOME, "transparent-proxy", "{'spec':null}");
    }
    fake_put("TransparentProxy", HOME, "transparent-proxy", text);
}

const char *text_at(const char *kind, const char *namespace, const char *name, const char *path)
{
    static char text[2048];
    const struct item *i = fake_find(kind, namespace, name);
    if (!i) {
        fail_msg("there is no %s %s/%s", kind, namespace, name);
        return NULL;
    }
    char *got = fake_get(i->text, path);
    text_fmt(text, sizeof(text), "%s", got);
    free(got);
    return text;
}

bool exists(const char *kind, const char *namespace, const char *name)
{
    return fake_find(kind, namespace, name) != NULL;
}

const char *condition_of(const char *namespace, const char *name, const char *member)
{
    static char text[2048];
    struct json *doc =
        json_parse(str_of(text_at("Destination", namespace, name, "status.conditions")), NULL);
    text[0] = '\0';
    for (struct json_value c = doc ? json_first(json_root(doc)) : (struct json_value){0};
         json_exists(c); c = json_next(c)) {
        char *got = json_strdup(json_get(c, member), NULL);
        if (got && json_is(json_get(c, "type"), "Available")) {
            text_fmt(text, sizeof(text), "%s", got);
        }
        free(got);
    }
    json_free(doc);
    return text;
}

uint16_t port_of(const char *namespace, const char *name, const char *member)
{
    int64_t port = 0;
    struct json *doc = json_parse(str_of(text_at("Service", namespace, name, "spec.ports")), NULL);
    int rc = json_int64(json_get(json_first(json_root(doc)), member), &port);
    assert_int_equal(rc, OK);
    json_free(doc);
    return (uint16_t)port;
}

uint16_t target_port(const char *name)
{
    return port_of(HOME, name, "targetPort");
}

/* ---- set-up ---- */

static void check_caller(const struct cluster_call *call)
{
    if (!world.replicas[call->client].leads) {
        fail_msg("replica %zu does not lead, and calls: verb %d, %s %s/%s", call->client,
                 call->verb, call->kind->kind, call->namespace, call->name);
    }
}

void start_world(bool in_cluster)
{
    struct error err;
    world = (struct world){.chance = 88172645463325252u, .deeds_max = WORLD_DEEDS_MAX};
    world.nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    world.settings = (struct controller_settings){.home = HOME,
                                                  .domain = "cluster.local",
                                                  .instance = "tproxy-0",
                                                  .first_port = FIRST_PORT,
                                                  .last_port = LAST_PORT,
                                                  .in_cluster = in_cluster,
                                                  .cluster_rules = in_cluster};
    test_sys_init();
    test_sys.random = fake_random;
    test_sys.socket = fake_socket;
    test_sys.setsockopt = fake_setsockopt;
    test_sys.bind = fake_bind;
    test_sys.listen = fake_listen;
    test_sys.getsockname = fake_getsockname;
    test_sys.epoll_ctl = fake_epoll_ctl;
    test_sys.close = fake_close;
    log_open(world.nowhere, LOG_FORMAT_TEXT);
    fake_start();
    fake.called = check_caller;
    list_init(&world.requests);
    world.loop = loop_new(&err);
    world.dns = dns_new(world.loop, "/nonexistent", "/nonexistent");
    world_use(0);
}

int setup(void **state)
{
    (void)state;
    start_world(true);
    fake_put(CRD, "{}");
    put_namespace(HOME);
    put_namespace("apps");
    configure("");
    serve("inbox");
    return 0;
}

int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < FAKE_CLIENTS; i++) {
        if (world.replicas[i].controller) {
            world_use(i);
            stop_controller();
        }
    }
    for (size_t i = 0; i < WORLD_DESTINATIONS; i++) {
        destination_unref(world.known[i].dest);
    }
    destination_unref(world.any);
    for (size_t i = 0; i < FAKE_CLIENTS; i++) {
        dest_free(world.replicas[i].dest);
        connectivity_free(world.replicas[i].connectivity);
        oauth_free(world.replicas[i].oauth);
    }
    dns_free(world.dns);
    loop_turn(world.loop, false);
    for (size_t i = 0; i < FAKE_CLIENTS; i++) {
        if (world.replicas[i].pop3) {
            pop3_free(world.replicas[i].pop3);
        }
    }
    loop_free(world.loop);
    fake_stop();
    log_flush();
    log_open(2, LOG_FORMAT_TEXT);
    close(world.nowhere);
    sys = &sys_real;
    return 0;
}

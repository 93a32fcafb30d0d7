/* Judges files with the parts of the running program, so that there is one judgement: as local
 * mode would, or by the rules of a cluster that holds just these objects. Two things are missing:
 * targets have no listeners, and the Destination service is not asked. There is no resolver either,
 * so no server can be.
 *
 *   files --> local_directory --> local_cluster <--> controller --> targets
 *                                       '----------> statuses of TransparentProxy objects
 *   nothing is left to do --> each file, with what was told of it, is printed */
#include "tproxy/check.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "btp/connectivity.h"
#include "configuration/proxy_status.h"
#include "controller/controller.h"
#include "controller/health.h"
#include "controller/plan.h"
#include "core/dest_source.h"
#include "core/destination.h"
#include "dest.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "local/cluster.h"
#include "local/directory.h"
#include "local/object.h"
#include "oauth.h"
#include "pop3.h"
#include "tproxy/check_print.h"
#include "tproxy/limits.h"
#include "tproxy/local_feed.h"
#include "tproxy/options.h"

static const char usage[] =
    "tproxy check - say what tproxy would make of some files\n"
    "\n"
    "  tproxy check [OPTION...] FILE...    these files: destinations as exported from the BTP\n"
    "                                      cockpit, and Destination, TransparentProxy and Secret\n"
    "                                      objects, as tproxy --local reads them\n"
    "  tproxy check [OPTION...] DIR        all files that tproxy --local DIR would read\n"
    "\n"
    "The files are judged together, as one directory. No server is asked, nothing listens, and\n"
    "nothing is changed.\n"
    "\n"
    "  --cluster              judge as in a cluster that has these objects and no others, and "
    "whose\n"
    "                         Destination service has these destinations\n"
    "  --json                 print one JSON object instead of lines\n"
    "  --namespace NAME       namespace of the installation (sap-transp-proxy-system)\n"
    "  --help\n"
    "\n"
    "Exit status: 0 nothing is wrong, 1 something is wrong, 2 wrong usage.\n";

/* Why a cluster's tproxy leaves something alone. */
#define NOT_MAIL "it is left to other proxies, because its destination is not POP3 mail"

/* How long a resource may wait for another one. */
#define PATIENCE SECONDS(30)

enum flag { FLAG_CLUSTER = 256, FLAG_JSON, FLAG_NAMESPACE, FLAG_HELP };

static const struct option flags[] = {
    {"cluster", no_argument, NULL, FLAG_CLUSTER},
    {"json", no_argument, NULL, FLAG_JSON},
    {"namespace", required_argument, NULL, FLAG_NAMESPACE},
    {"help", no_argument, NULL, FLAG_HELP},
    {0},
};

/* A target that the controller has told of. */
struct told {
    struct list link;
    struct check_target target; /* linked while its file is printed */
    struct condition condition;
    char *namespace, *resource, *name, *destination;
};

/* What was told of a TransparentProxy object. */
struct told_proxy {
    struct list link;
    char *namespace, *name;
    char *remark; /* why it has no effect; NULL: it has one */
    char *status; /* JSON; NULL: none was written */
};

struct check {
    const char *home; /* NULL: the usual one */
    bool cluster, json;
    char **paths;
    size_t n_paths;

    struct loop *loop;
    struct oauth *oauth;
    struct connectivity *connectivity;
    struct dest *dest;
    struct pop3 *pop3;
    struct local_cluster *objects;
    struct local_directory *directory;
    struct controller *controller;
    struct local_feed feed;

    bool configured; /* a configuration is in force */
    bool decided;    /* by it, of all resources */
    bool late;       /* `patience` has run out */
    struct timer patience;
    struct list targets, proxies; /* struct told, struct told_proxy */
    struct check_print print;
};

static void parse(struct check *c, int argc, char **argv)
{
    int flag;
    optind = 0; /* getopt begins anew */
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        switch (flag) {
        case FLAG_CLUSTER:
            c->cluster = true;
            break;
        case FLAG_JSON:
            c->json = true;
            break;
        case FLAG_NAMESPACE:
            c->home = optarg;
            break;
        case FLAG_HELP:
            fputs(usage, stdout);
            exit(0);
        default:
            options_die("see tproxy check --help");
        }
    }
    c->home = options_home(c->home, NULL);
    c->paths = argv + optind;
    c->n_paths = (size_t)(argc - optind);
    if (c->n_paths == 0) {
        options_die("name files, or a directory of files; see tproxy check --help");
    }
}

/* ---- what is told ---- */

static struct told *find_told(const struct check *c, const char *namespace, const char *name)
{
    LIST_EACH (it, &c->targets) {
        struct told *t = container_of(it, struct told, link);
        if (strcmp(t->namespace, namespace) == 0 && strcmp(t->name, name) == 0) {
            return t;
        }
    }
    return NULL;
}

static void told_free(struct told *t)
{
    list_remove(&t->link);
    destination_unref(t->target.dest);
    free(t->namespace);
    free(t->resource);
    free(t->name);
    free(t->destination);
    free(t);
}

static void on_gone(const char *namespace, const char *name, void *arg)
{
    struct told *t = find_told(arg, namespace, name);
    if (t) {
        told_free(t);
    }
}

static void on_target(const struct controller_report *report, void *arg)
{
    struct check *c = arg;
    struct told *t = mem_zalloc(sizeof(*t));
    on_gone(report->namespace, report->name, c); /* the last report counts */
    t->condition = *report->condition;
    t->namespace = mem_strdup(report->namespace);
    t->resource = mem_strdup(report->resource);
    t->name = mem_strdup(report->name);
    t->destination = mem_strdup(report->destination);
    t->target = (struct check_target){
        .verdict = t->condition.available ? CHECK_OK
                   : report->unread       ? CHECK_UNKNOWN
                                          : CHECK_WRONG,
        .name = t->name,
        .destination = t->destination,
        .reason = t->condition.reason,
        .message = t->condition.message,
        .dest = report->dest ? destination_ref(report->dest) : NULL,
        .remark = report->remark,
    };
    list_init(&t->target.link);
    list_append(&c->targets, &t->link);
}

static void on_configured(const struct config *config, void *arg)
{
    struct check *c = arg;
    (void)config;
    c->configured = true;
}

static struct told_proxy *proxy_of(struct check *c, const char *namespace, const char *name)
{
    LIST_EACH (it, &c->proxies) {
        struct told_proxy *p = container_of(it, struct told_proxy, link);
        if (strcmp(p->namespace, namespace) == 0 && strcmp(p->name, name) == 0) {
            return p;
        }
    }
    struct told_proxy *p = mem_zalloc(sizeof(*p));
    p->namespace = mem_strdup(namespace);
    p->name = mem_strdup(name);
    list_append(&c->proxies, &p->link);
    return p;
}

static void proxy_free(struct told_proxy *p)
{
    list_remove(&p->link);
    free(p->namespace);
    free(p->name);
    free(p->remark);
    free(p->status);
    free(p);
}

/* Keeps the status of a TransparentProxy object. Only those of the home namespace get one. */
static void on_status(const char *kind, const char *name, struct json_value status, void *arg)
{
    struct check *c = arg;
    if (strcmp(kind, CR_KIND) != 0) {
        struct told_proxy *p = proxy_of(c, c->home, name);
        struct str text = json_text(status);
        free(p->status);
        p->status = mem_strndup(text.p, text.n);
    }
}

static void on_without_effect(const struct local_object *object, const char *text, void *arg)
{
    struct told_proxy *p = proxy_of(arg, object->namespace, object->name);
    free(p->remark);
    p->remark = mem_strdup(text);
}

/* Complaints are printed with their files (local_directory_each). */
static void on_complaint(const char *path, const char *text, void *arg)
{
    (void)path;
    (void)text;
    (void)arg;
}

/* ---- the verdict on a file ---- */

static void worsen(struct check_file *f, enum check_verdict verdict)
{
    f->verdict = verdict > f->verdict ? verdict : f->verdict;
}

/* Moves the targets of a CR to `targets`. */
static void collect_targets(struct check *c, const char *namespace, const char *name,
                            struct check_file *f)
{
    LIST_EACH (it, &c->targets) {
        struct told *t = container_of(it, struct told, link);
        if (strcmp(t->namespace, namespace) == 0 && strcmp(t->resource, name) == 0) {
            list_append(f->targets, &t->target.link);
            worsen(f, t->target.verdict);
        }
    }
    if (!list_empty(f->targets)) {
        return;
    }
    if (c->decided) {
        f->remark = NOT_MAIL;
        return;
    }
    worsen(f, CHECK_UNKNOWN);
    f->remark = c->configured ? "it has not been decided in time"
                              : "nothing is decided, because no configuration is in force";
}

static void judge_destination(struct check *c, const struct destination *dest, struct check_file *f)
{
    f->kind = "destination";
    f->name = dest->name;
    if (c->cluster) {
        worsen(f, CHECK_OK);
        f->dest = dest;
    } else if (local_cluster_hides_destination(c->objects, dest->name)) {
        worsen(f, CHECK_OK);
        f->remark = "a Destination CR of this name takes its place";
    } else {
        collect_targets(c, LOCAL_NAMESPACE, dest->name, f);
    }
}

static void judge_proxy(struct check *c, struct check_file *f, struct json **doc)
{
    const struct told_proxy *p = proxy_of(c, f->namespace, f->name);
    worsen(f, CHECK_OK);
    if (p->remark) {
        worsen(f, CHECK_WRONG);
        f->remark = p->remark;
    }
    if (p->status) {
        *doc = json_parse(str_of(p->status), NULL);
        f->status = json_root(*doc);
    }
    struct json_value conditions = json_get(f->status, "conditions");
    for (struct json_value v = json_first(conditions); json_exists(v); v = json_next(v)) {
        worsen(f, proxy_status_is_problem(v) ? CHECK_WRONG : CHECK_OK);
    }
}

static void judge_object(struct check *c, const struct local_object *object, struct check_file *f,
                         struct json **doc)
{
    f->kind = object->kind;
    f->namespace = object->namespace;
    f->name = object->name;
    if (strcmp(object->kind, CR_KIND) == 0) {
        collect_targets(c, object->namespace, object->name, f);
    } else if (strcmp(object->kind, "TransparentProxy") == 0) {
        judge_proxy(c, f, doc);
    } else if (local_cluster_is_followed(c->objects, object)) {
        worsen(f, CHECK_OK); /* what is wrong with it is in the status that names it */
    } else {
        f->remark = "no TransparentProxy object in force names it";
    }
}

static void on_file(const struct local_report *report, void *arg)
{
    struct check *c = arg;
    struct json *doc = NULL;
    struct list targets;
    struct check_file f = {.path = report->path, .targets = &targets};
    list_init(&targets);
    if (c->cluster && report->verdict == VERDICT_TYPE_NOT_SUPPORTED) {
        f.remark = NOT_MAIL;
    } else if (report->complaint) {
        f.verdict = CHECK_WRONG;
        f.remark = report->complaint;
    } else if (report->dest) {
        judge_destination(c, report->dest, &f);
    } else if (report->object) {
        judge_object(c, report->object, &f, &doc);
    } else {
        f.remark = "files with such a name are not read";
    }
    check_print_file(&c->print, &f);
    LIST_EACH (it, &targets) {
        list_remove(it);
    }
    json_free(doc);
}

/* ---- life ---- */

static bool is_directory(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        options_die("%s: cannot be read: %m", path);
    }
    return S_ISDIR(st.st_mode);
}

static int open_directory(struct check *c, struct error *err)
{
    struct local_directory_handler handler = local_feed_handler(&c->feed, on_complaint);
    bool one = is_directory(c->paths[0]);
    for (size_t i = 1; i < c->n_paths; i++) {
        if (one || is_directory(c->paths[i])) {
            options_die("name files, or one directory; see tproxy check --help");
        }
    }
    c->directory = one ? local_directory_new(c->loop, c->paths[0], handler, err)
                       : local_directory_of(c->loop, c->paths, c->n_paths, handler, err);
    return c->directory ? OK : ERR;
}

static struct controller *new_controller(struct check *c, const struct options *options)
{
    struct controller_parts parts = {
        .cluster = local_cluster_face(c->objects),
        .source = connectivity_source(c->connectivity, local_directory_source(c->directory)),
        .dest = c->dest,
        .oauth = c->oauth,
        .connectivity = c->connectivity,
        .pop3 = c->pop3};
    struct controller_settings settings = {.home = c->home,
                                           .domain = "cluster.local",
                                           .instance = "tproxy",
                                           .first_port = options->first_port,
                                           .last_port = options->last_port,
                                           .namespace_targets = options->namespace_targets,
                                           .claim_all = options->claim_all,
                                           .cluster_rules = c->cluster};
    struct controller_handler handler = {
        .configured = on_configured, .changed = on_target, .gone = on_gone, .arg = c};
    return controller_new(c->loop, &parts, &settings, handler);
}

static int start(struct check *c, struct error *err)
{
    struct options options = {0};
    struct local_cluster_handler handler = {.status = on_status, .arg = c};
    list_init(&c->targets);
    list_init(&c->proxies);
    c->loop = loop_new(err);
    if (!c->loop) {
        return ERR;
    }
    c->oauth = oauth_new(c->loop, NULL, NULL);
    c->connectivity = connectivity_new(c->loop, c->oauth);
    options_set_mode(&options, !c->cluster);
    options.pop3.no_listeners = true;
    c->dest = dest_new(c->loop, NULL, c->oauth, c->connectivity, NULL, options.pop3.allow_local);
    dest_stay_offline(c->dest);
    c->pop3 = pop3_new(c->loop, NULL, NULL, &options.pop3, err);
    c->objects = local_cluster_new(c->loop, handler);
    c->feed = (struct local_feed){.objects = c->objects,
                                  .home = c->home,
                                  .cluster = c->cluster,
                                  .without_effect = on_without_effect,
                                  .arg = c};
    if (!c->pop3 || open_directory(c, err) != OK) {
        return ERR;
    }
    local_directory_set_oauth(c->directory, c->oauth, c->connectivity);
    local_directory_set_service(c->directory, dest_service(c->dest));
    if (c->cluster) {
        local_directory_stand_in(c->directory);
    }
    c->feed.controller = c->controller = new_controller(c, &options);
    return OK;
}

static void on_late(struct timer *t)
{
    container_of(t, struct check, patience)->late = true;
}

/* Works until everything has been decided. A resource may wait for another one that has the same
 * name, and be woken by a timer. */
static void judge(struct check *c)
{
    const char *why;
    timer_set(c->loop, &c->patience, loop_now(c->loop) + PATIENCE, on_late);
    do {
        loop_turn(c->loop, loop_is_idle(c->loop));
        c->decided = c->configured && controller_ready(c->controller, &why);
    } while (!loop_is_idle(c->loop) || (c->configured && !c->decided && !c->late));
    timer_cancel(c->loop, &c->patience);
}

static void stop(struct check *c)
{
    controller_stop(c->controller);
    pop3_abort(c->pop3);
    controller_free(c->controller);
    local_directory_free(c->directory);
    local_cluster_free(c->objects);
    dest_free(c->dest);
    connectivity_free(c->connectivity);
    oauth_free(c->oauth);
    loop_turn(c->loop, false); /* frees the objects that have just died */
    pop3_free(c->pop3);
    loop_free(c->loop);
    LIST_EACH (it, &c->targets) {
        told_free(container_of(it, struct told, link));
    }
    LIST_EACH (it, &c->proxies) {
        proxy_free(container_of(it, struct told_proxy, link));
    }
}

int check_command(int argc, char **argv)
{
    struct check c = {0};
    struct error err;
    parse(&c, argc, argv);
    limits_forbid_core_dumps();
    log_open(STDERR_FILENO, LOG_FORMAT_TEXT);
    log_set_level(LOG_FATAL); /* the output says all that the log would */
    if (start(&c, &err) != OK) {
        options_die("%s", err.text);
    }
    judge(&c);
    check_print_begin(&c.print, c.json);
    local_directory_each(c.directory, on_file, &c);
    check_print_end(&c.print);
    stop(&c);
    struct str out = buf_str(&c.print.out);
    size_t written = fwrite(out.p, 1, out.n, stdout);
    bool failed = written != out.n || fflush(stdout) != 0;
    int code = check_print_verdict(&c.print) == CHECK_WRONG;
    buf_free(&c.print.out);
    if (failed) {
        fputs("tproxy: standard output cannot be written\n", stderr);
        return 1;
    }
    return code;
}

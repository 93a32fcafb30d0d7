/* Follows a directory of files. Events only mark what to read again. A while after the last event
 * everything marked is read, one file a step, and the result is compared with the last report.
 *
 *    event --> mark file, or the list of files, or all --> timer (quiet for a moment)
 *                                                            |
 *    watch lost --> timer (retry)                            v
 *                       |                .--> step: watch the directory, if need be
 *                       '----------------|          list it, if marked
 *                                        |          read one marked file ---.
 *                                        '----------------------------------'
 *                                                   nothing marked: report the differences */
#include "local/directory.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "btp/mail_token.h"
#include "core/dest_source.h"
#include "core/destination.h"
#include "core/token.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "local/file.h"
#include "local/object.h"

/* Changes are read when none has followed for QUIET, at the latest MOST after the first. */
#define QUIET MILLIS(30)
#define MOST MILLIS(300)
#define RETRY MILLIS(500)

enum { TEXT_MAX = 640, PATH_TEXT_MAX = 4096 + 256 };

/* A text that says what is wrong, and the text that was reported last. NULL: nothing is wrong. */
struct complaint {
    char *text, *reported;
};

struct file {
    char *name; /* in the directory, or the path */
    enum local_form form;
    bool listed;                  /* was there when the directory was last listed */
    bool marked;                  /* to be read */
    struct local_content content; /* its contents, or its last good ones */
    struct complaint complaint;   /* about its content */
};

struct local_directory {
    struct dest_source source;
    struct dest_source *service;       /* for destinations that no file describes; NULL: none */
    bool stands_in;                    /* the files are what the service has */
    struct oauth *oauth;               /* for tokens of destinations in files */
    struct connectivity *connectivity; /* for the route to their token servers */
    struct loop *loop;
    char *dir; /* NULL: the files are named by their paths, and not followed */
    struct local_directory_handler handler;

    struct io inotify;
    int watch; /* -1: the directory is not watched */
    struct timer timer;
    bool timer_waits;
    int64_t first_change;
    struct task step;

    bool list_marked, too_many, too_many_others;
    size_t n_others;                                        /* files whose form is not read */
    struct file *files[LOCAL_FILES_MAX + LOCAL_OTHERS_MAX]; /* sorted by name */
    size_t n_files, n_sorted;   /* while listing, the new ones at the end are not sorted */
    struct complaint complaint; /* about the directory */

    struct local_content *table; /* the contents that were reported, sorted by key */
    size_t n_table;
    struct list requests;
};

static void set_complaint(struct complaint *c, const char *text)
{
    free(c->text);
    c->text = text ? mem_strdup(text) : NULL;
    if (text) {
        text_sanitize(c->text);
    }
}

static void complaint_free(struct complaint *c)
{
    free(c->text);
    free(c->reported);
}

/* ---- files ---- */

static const char *path_of(const struct local_directory *l, const char *name,
                           char out[static PATH_TEXT_MAX])
{
    text_fmt(out, PATH_TEXT_MAX, "%s%s%s", l->dir ? l->dir : "", l->dir ? "/" : "", name);
    return out;
}

/* Returns the last part of a path. */
static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int compare_files(const void *a, const void *b)
{
    const struct file *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static struct file *find_file(const struct local_directory *l, const char *name)
{
    struct file key = {.name = (char *)name}, *p = &key;
    struct file **found = bsearch(&p, l->files, l->n_sorted, sizeof(l->files[0]), compare_files);
    return found ? *found : NULL;
}

static void file_free(struct file *f)
{
    free(f->name);
    local_content_clear(&f->content);
    complaint_free(&f->complaint);
    free(f);
}

static void read_file(const struct local_directory *l, struct file *f)
{
    char path[PATH_TEXT_MAX], text[LOCAL_COMPLAINT_MAX];
    f->marked = false;
    local_file_read(path_of(l, f->name, path), last_part(f->name), l->stands_in, &f->content, text);
    set_complaint(&f->complaint, text[0] ? text : NULL);
}

/* ---- complaints ---- */

static void tell_complaint(struct local_directory *l, struct complaint *c, const char *path,
                           const char *text)
{
    if (text == c->reported || (text && c->reported && strcmp(text, c->reported) == 0)) {
        return;
    }
    free(c->reported);
    c->reported = text ? mem_strdup(text) : NULL;
    l->handler.complaint(path, text, l->handler.arg);
}

static void drop_unlisted(struct local_directory *l)
{
    char path[PATH_TEXT_MAX];
    size_t kept = 0;
    for (size_t i = 0; i < l->n_files; i++) {
        struct file *f = l->files[i];
        if (f->listed) {
            l->files[kept++] = f;
            continue;
        }
        tell_complaint(l, &f->complaint, path_of(l, f->name, path), NULL);
        l->n_others -= !local_form_is_read(f->form);
        file_free(f);
    }
    l->n_files = l->n_sorted = kept;
}

/* ---- the list of files ---- */

static void mark_all(struct local_directory *l)
{
    l->list_marked = true;
    for (size_t i = 0; i < l->n_files; i++) {
        l->files[i]->marked = true;
    }
}

/* Tells whether an entry may be a file that counts. A directory is ignored, unless it has the name
 * of a JSON file. */
static bool is_candidate(const struct dirent *entry)
{
    enum local_form form = local_file_form(entry->d_name);
    return form == LOCAL_JSON || (form != LOCAL_PASSED_OVER && entry->d_type != DT_DIR);
}

/* Calls `take` for each file that counts. ERR and errno when the list breaks off. */
static int each_entry(struct local_directory *l, DIR *d,
                      void (*take)(struct local_directory *l, const char *name))
{
    struct dirent *entry;
    rewinddir(d);
    for (errno = 0; (entry = readdir(d)) != NULL; errno = 0) {
        if (is_candidate(entry)) {
            take(l, entry->d_name);
        }
    }
    return errno ? ERR : OK;
}

static void take_known(struct local_directory *l, const char *name)
{
    struct file *f = find_file(l, name);
    if (f) {
        f->listed = true;
    }
}

static void add_file(struct local_directory *l, const char *name)
{
    struct file *f = mem_zalloc(sizeof(*f));
    f->name = mem_strdup(name);
    f->form = local_file_form(last_part(name));
    f->listed = f->marked = true;
    l->files[l->n_files++] = f;
    l->n_others += !local_form_is_read(f->form);
}

static void take_new(struct local_directory *l, const char *name)
{
    enum local_form form = local_file_form(name);
    if (find_file(l, name)) {
        return;
    }
    if (local_form_is_read(form) && l->n_files - l->n_others == LOCAL_FILES_MAX) {
        l->too_many = true;
        return;
    }
    if (!local_form_is_read(form) && l->n_others == LOCAL_OTHERS_MAX) {
        l->too_many_others = true;
        return;
    }
    add_file(l, name);
}

static void sort_files(struct local_directory *l)
{
    qsort(l->files, l->n_files, sizeof(l->files[0]), compare_files);
    l->n_sorted = l->n_files;
}

static void retry_later(struct local_directory *l);

/* Handles a directory that cannot be read. If it does not exist, it has no files; otherwise it
 * keeps those that it had. */
static void directory_failed(struct local_directory *l, int error)
{
    char text[TEXT_MAX];
    text_fmt(text, sizeof(text), "the directory cannot be read (%s); waiting for it",
             strerror(error));
    set_complaint(&l->complaint, text);
    for (size_t i = 0; i < l->n_files; i++) {
        l->files[i]->listed = error != ENOENT && error != ENOTDIR;
    }
    retry_later(l);
}

static void complain_about_list(struct local_directory *l)
{
    char text[TEXT_MAX];
    if (l->too_many) {
        text_fmt(text, sizeof(text), "holds more than %d files; the others are not read",
                 LOCAL_FILES_MAX);
    } else if (l->too_many_others) {
        text_fmt(text, sizeof(text),
                 "holds more than %d files that are not read; the others are not named",
                 LOCAL_OTHERS_MAX);
    } else {
        text_fmt(
            text, sizeof(text),
            "holds no destination; put one here, as a file *.json that the BTP cockpit exports");
    }
    bool good = l->n_files > 0 && !l->too_many && !l->too_many_others;
    set_complaint(&l->complaint, good ? NULL : text);
}

/* Drops the deleted files, so that their places are free, and then adds the new ones. If the list
 * breaks off nothing is dropped. */
static void list_directory(struct local_directory *l)
{
    DIR *d = opendir(l->dir);
    l->list_marked = l->too_many = l->too_many_others = false;
    for (size_t i = 0; i < l->n_files; i++) {
        l->files[i]->listed = false;
    }
    bool listed = d && each_entry(l, d, take_known) == OK;
    if (listed) {
        drop_unlisted(l);
        listed = each_entry(l, d, take_new) == OK;
        int error = errno;
        sort_files(l);
        errno = error;
    }
    if (!listed) {
        directory_failed(l, errno);
    } else {
        complain_about_list(l);
    }
    if (d) {
        closedir(d);
    }
}

/* ---- reporting the differences ---- */

/* Sorts by key, then by file: the first file with a key owns it. */
static int compare_claims(const void *a, const void *b)
{
    const struct file *const *x = a, *const *y = b;
    int by_key = strcmp((*x)->content.key, (*y)->content.key);
    return by_key ? by_key : strcmp((*x)->name, (*y)->name);
}

static void duplicate_text(char text[static TEXT_MAX], const struct local_content *content,
                           const char *owner)
{
    char shown[DESTINATION_NAME_MAX + 1];
    const char *name = content->dest ? content->dest->name : content->object->name;
    text_fmt(text, TEXT_MAX, "%s: \"%s\" is taken by the file %s; give it another name",
             content->dest ? "Name" : "metadata.name",
             text_printable(shown, sizeof(shown), str_of(name)), owner);
    text_sanitize(text);
}

/* Tells whether the JSON form of a YAML file is there, so that nothing is left to do about it. */
static bool converted(const struct local_directory *l, const struct file *f)
{
    char json[PATH_TEXT_MAX];
    if (f->form != LOCAL_YAML) {
        return false;
    }
    text_fmt(json, sizeof(json), "%.*s.json", (int)(strrchr(f->name, '.') - f->name), f->name);
    return find_file(l, json) != NULL;
}

/* Fills the table anew and reports all complaints. */
static void settle_claims(struct local_directory *l)
{
    char path[PATH_TEXT_MAX], text[TEXT_MAX];
    struct file **claims = mem_alloc(l->n_files * sizeof(struct file *));
    size_t n = 0;
    for (size_t i = 0; i < l->n_files; i++) {
        struct file *f = l->files[i];
        if (f->content.key) {
            claims[n++] = f;
        } else {
            tell_complaint(l, &f->complaint, path_of(l, f->name, path),
                           converted(l, f) ? NULL : f->complaint.text);
        }
    }
    qsort(claims, n, sizeof(struct file *), compare_claims);

    const struct file *owner = NULL;
    l->table = mem_alloc(n * sizeof(struct local_content));
    l->n_table = 0;
    for (size_t i = 0; i < n; i++) {
        struct file *f = claims[i];
        const char *said = f->complaint.text;
        if (!owner || strcmp(owner->content.key, f->content.key) != 0) {
            owner = f;
            l->table[l->n_table++] = local_content_ref(&f->content);
        } else if (!said) {
            duplicate_text(text, &f->content, owner->name);
            said = text;
        }
        tell_complaint(l, &f->complaint, path_of(l, f->name, path), said);
    }
    free(claims);
}

static void tell_changed(struct local_directory *l, const struct local_content *content)
{
    if (content->dest) {
        l->handler.destination_changed(content->dest, l->handler.arg);
    } else {
        l->handler.object_changed(content->object, l->handler.arg);
    }
}

static void tell_gone(struct local_directory *l, const struct local_content *content)
{
    if (content->dest) {
        l->handler.destination_gone(content->dest->name, l->handler.arg);
    } else {
        l->handler.object_gone(content->object, l->handler.arg);
    }
}

/* Reports what came, went and changed. Both tables are sorted, so one walk finds it. */
static void tell_contents(struct local_directory *l, const struct local_content *old, size_t n_old)
{
    size_t o = 0, n = 0;
    while (o < n_old || n < l->n_table) {
        int order = 0;
        if (o == n_old || n == l->n_table) {
            order = o == n_old ? 1 : -1;
        } else {
            order = strcmp(old[o].key, l->table[n].key);
        }
        if (order < 0) {
            tell_gone(l, &old[o]);
        } else if (order > 0 || !local_content_equal(&old[o], &l->table[n])) {
            tell_changed(l, &l->table[n]);
        }
        o += order <= 0;
        n += order >= 0;
    }
}

static void table_free(struct local_content *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        local_content_clear(&table[i]);
    }
    free(table);
}

static void report(struct local_directory *l)
{
    struct local_content *old = l->table;
    size_t n_old = l->n_table;
    tell_complaint(l, &l->complaint, l->dir, l->complaint.text);
    drop_unlisted(l);
    settle_claims(l);
    tell_contents(l, old, n_old);
    table_free(old, n_old);
    l->handler.settled(l->handler.arg);
}

void local_directory_each(const struct local_directory *l,
                          void (*each)(const struct local_report *report, void *arg), void *arg)
{
    char path[PATH_TEXT_MAX];
    if (l->complaint.reported) {
        each(&(struct local_report){.path = l->dir, .complaint = l->complaint.reported}, arg);
    }
    for (size_t i = 0; i < l->n_files; i++) {
        const struct file *f = l->files[i];
        const struct local_refusal *refusal = f->content.refusal;
        const struct local_report report = {.path = path_of(l, f->name, path),
                                            .verdict = refusal ? refusal->verdict : VERDICT_OK,
                                            .complaint = f->complaint.reported,
                                            .dest = f->content.dest,
                                            .object = f->content.object};
        each(&report, arg);
    }
}

/* ---- following ---- */

static int watch_directory(struct local_directory *l)
{
    /* Without IN_MODIFY, a file that is being written is read when its writer closes it. */
    l->watch = inotify_add_watch(l->inotify.fd, l->dir,
                                 IN_CLOSE_WRITE | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVE |
                                     IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR);
    return l->watch < 0 ? ERR : OK;
}

static void look_at_directory(struct local_directory *l)
{
    if (l->watch < 0 && watch_directory(l) == OK) {
        mark_all(l);
    }
    if (l->watch < 0) {
        l->list_marked = false;
        directory_failed(l, errno);
    } else if (l->list_marked) {
        list_directory(l);
    }
}

/* Does one bounded piece of work in each turn of the ready list. */
static void on_step(struct task *t)
{
    struct local_directory *l = container_of(t, struct local_directory, step);
    if (l->dir) {
        look_at_directory(l);
    }
    for (size_t i = 0; i < l->n_files; i++) {
        struct file *f = l->files[i];
        if (f->marked && f->listed) {
            read_file(l, f);
            loop_soon(l->loop, &l->step, on_step);
            return;
        }
    }
    report(l);
}

static void on_quiet(struct timer *t)
{
    struct local_directory *l = container_of(t, struct local_directory, timer);
    l->timer_waits = false;
    loop_soon(l->loop, &l->step, on_step);
}

static void retry_later(struct local_directory *l)
{
    l->list_marked = true;
    if (!l->timer_waits) {
        timer_set(l->loop, &l->timer, loop_now(l->loop) + RETRY, on_quiet);
    }
}

static void look_soon(struct local_directory *l)
{
    int64_t now = loop_now(l->loop);
    if (!l->timer_waits) {
        l->first_change = now;
        l->timer_waits = true;
    }
    int64_t latest = l->first_change + MOST;
    timer_set(l->loop, &l->timer, now + QUIET < latest ? now + QUIET : latest, on_quiet);
}

static void take_event(struct local_directory *l, const struct inotify_event *e)
{
    if (e->mask & IN_Q_OVERFLOW) {
        mark_all(l);
    } else if (e->wd != l->watch) {
        return; /* a late event of a directory that was watched before */
    } else if (e->mask & IN_MOVE_SELF) {
        inotify_rm_watch(l->inotify.fd, l->watch);
        l->watch = -1;
    } else if (e->mask & IN_IGNORED) {
        l->watch = -1;
    } else if (e->len) {
        struct file *f = find_file(l, e->name);
        if (f) {
            f->marked = true;
            l->list_marked = true;
        } else if (local_file_form(e->name) != LOCAL_PASSED_OVER) {
            l->list_marked = true;
        } else if (strncmp(e->name, "..", 2) == 0) {
            mark_all(l); /* "..data": Kubernetes swaps all mounted files at once */
        } else {
            return;
        }
    } else {
        return;
    }
    look_soon(l);
}

static void on_inotify(struct io *io)
{
    struct local_directory *l = container_of(io, struct local_directory, inotify);
    _Alignas(struct inotify_event) char batch[4096];
    for (;;) {
        ssize_t got = read(io->fd, batch, sizeof(batch));
        if (got <= 0) {
            io->ready &= ~(unsigned)IO_READ;
            return;
        }
        const struct inotify_event *e;
        for (char *p = batch; p < batch + got; p += sizeof(*e) + e->len) {
            e = (const struct inotify_event *)p;
            take_event(l, e);
        }
    }
}

/* ---- as a source of destinations ---- */

struct dest_request {
    struct list link;
    struct task task;
    struct local_directory *local;
    struct dest_handler handler;
    enum dest_purpose purpose;
    char *name;
    bool whole;                     /* the reference names nothing that no file has: no fragment or
                                       chain */
    struct secret user_token;       /* what the client sent; empty: nothing */
    struct dest_request *forwarded; /* to the service; NULL: `task` answers, or asks for a token */
    const struct destination *dest; /* the destination that the token is for */
    struct mail_token_wait *wait;
};

static int compare_key(const void *key, const void *element)
{
    const struct local_content *content = element;
    return strcmp(key, content->key);
}

static const struct destination *find_destination(const struct local_directory *l, const char *name)
{
    char key[DESTINATION_NAME_MAX + 2];
    if (strlen(name) > DESTINATION_NAME_MAX) {
        return NULL; /* a CR may have a name that no destination can have */
    }
    text_fmt(key, sizeof(key), "/%s", name);
    const struct local_content *found =
        l->n_table ? bsearch(key, l->table, l->n_table, sizeof(l->table[0]), compare_key) : NULL;
    return found ? found->dest : NULL;
}

static void request_free(struct dest_request *request)
{
    list_remove(&request->link);
    task_cancel(&request->task);
    mail_token_cancel(request->wait);
    destination_unref(request->dest);
    secret_clear(&request->user_token);
    free(request->name);
    free(request);
}

static void answer_request(struct dest_request *request, const struct dest_answer *answer)
{
    struct dest_handler handler = request->handler;
    const struct destination *dest = request->dest;
    request->dest = NULL; /* it may be part of the answer, so it lives until that is told */
    request_free(request);
    handler.done(answer, handler.arg);
    destination_unref(dest);
}

static void refuse_request(struct dest_request *request, enum verdict verdict,
                           const struct error *err)
{
    const struct dest_answer refusal = {.verdict = verdict, .err = *err};
    answer_request(request, &refusal);
}

static void on_request_token(struct token *token, const struct error *err, void *arg)
{
    struct dest_request *request = arg;
    request->wait = NULL;
    if (token) {
        const struct dest_answer found = {.dest = request->dest, .token = token};
        answer_request(request, &found);
    } else {
        refuse_request(request, VERDICT_UNREADABLE, err);
    }
}

static struct mail_token_of token_of(const struct destination *dest,
                                     const struct secret *user_token)
{
    return (struct mail_token_of){.dest = dest, .user_token = user_token};
}

static void ask_token(struct dest_request *request)
{
    struct error err;
    struct mail_token_of of =
        token_of(request->dest, request->user_token.n ? &request->user_token : NULL);
    struct oauth_handler handler = {.done = on_request_token, .arg = request};
    request->wait =
        mail_token_get(request->local->oauth, request->local->connectivity, &of, handler, &err);
    if (!request->wait) {
        refuse_request(request, VERDICT_CONFIGURATION_FAILED, &err);
    }
}

/* Tells whether a token has to be asked for. There is none for a user who has not sent anything. */
static bool wants_token(const struct dest_request *request, const struct destination *dest)
{
    return request->purpose == DEST_TO_LOG_IN && dest->tokens &&
           (dest->auth == AUTH_CLIENT_CREDENTIALS || request->user_token.n);
}

static void on_request_due(struct task *t)
{
    struct dest_request *request = container_of(t, struct dest_request, task);
    struct local_directory *l = request->local;
    struct error err;
    const struct destination *dest = find_destination(l, request->name);
    if (!dest) {
        error_set(&err, FAIL_CONFIG, "no file in %s describes the destination %s",
                  l->dir ? l->dir : "this list", request->name);
        refuse_request(request, VERDICT_NOT_FOUND, &err);
    } else if (wants_token(request, dest)) {
        request->dest = destination_ref(dest);
        ask_token(request);
    } else {
        const struct dest_answer found = {.dest = dest};
        answer_request(request, &found);
    }
}

/* Returns why a destination of this name cannot be used; NULL: no file has such a one. */
static const struct local_refusal *find_refusal(const struct local_directory *l, const char *name)
{
    for (size_t i = 0; i < l->n_files; i++) {
        const struct local_refusal *refusal = l->files[i]->content.refusal;
        if (refusal && strcmp(refusal->name, name) == 0) {
            return refusal;
        }
    }
    return NULL;
}

/* A file that stands for the service answers what a server would have to. */
static void on_forwarded(const struct dest_answer *found, void *arg)
{
    struct dest_request *request = arg;
    const struct local_directory *l = request->local;
    bool open = l->stands_in && request->whole && found->verdict == VERDICT_UNREADABLE;
    const struct dest_answer filed = {.dest = open ? find_destination(l, request->name) : NULL};
    const struct local_refusal *refusal =
        open && !filed.dest ? find_refusal(l, request->name) : NULL;
    if (refusal) {
        refuse_request(request, refusal->verdict, &refusal->err);
    } else {
        answer_request(request, filed.dest ? &filed : found);
    }
}

/* Asks the files first, and then the service; or the other way round, if they stand for it. */
static struct dest_request *directory_find(struct dest_source *source, const struct dest_ref *ref,
                                           enum dest_purpose purpose, const struct dest_user *user,
                                           struct dest_handler handler)
{
    struct local_directory *l = container_of(source, struct local_directory, source);
    struct dest_request *request = mem_zalloc(sizeof(*request));
    request->local = l;
    request->handler = handler;
    request->purpose = purpose;
    request->name = mem_strdup(ref->name);
    request->whole = !ref->fragment && !ref->chain;
    if (user) {
        secret_set(&request->user_token, user->secret->p, user->secret->n);
    }
    task_init(&request->task);
    list_append(&l->requests, &request->link);
    if (l->service && (l->stands_in || (ref->instance && !find_destination(l, ref->name)))) {
        struct dest_handler forward = {.done = on_forwarded, .arg = request};
        request->forwarded = dest_find(l->service, ref, purpose, user, forward);
    } else {
        loop_soon(l->loop, &request->task, on_request_due);
    }
    return request;
}

static void directory_cancel(struct dest_source *source, struct dest_request *request)
{
    const struct local_directory *l = container_of(source, struct local_directory, source);
    if (!request) {
        return;
    }
    if (request->forwarded) {
        dest_cancel(l->service, request->forwarded);
    }
    request_free(request);
}

static void directory_refused(struct dest_source *source, const struct dest_ref *ref,
                              const struct dest_user *user, const struct token *token)
{
    const struct local_directory *l = container_of(source, struct local_directory, source);
    const struct destination *dest = find_destination(l, ref->name);
    if (dest && dest->tokens) {
        struct mail_token_of of = token_of(dest, user ? user->secret : NULL);
        mail_token_refused(l->oauth, &of, token);
    } else if (!dest && l->service) {
        dest_refused(l->service, ref, user, token);
    }
}

struct dest_source *local_directory_source(struct local_directory *local)
{
    return &local->source;
}

void local_directory_set_oauth(struct local_directory *local, struct oauth *oauth,
                               struct connectivity *connectivity)
{
    local->oauth = oauth;
    local->connectivity = connectivity;
}

void local_directory_set_service(struct local_directory *local, struct dest_source *service)
{
    local->service = service;
}

void local_directory_stand_in(struct local_directory *local)
{
    local->stands_in = true;
}

/* ---- life ---- */

static struct local_directory *new_directory(struct loop *loop,
                                             struct local_directory_handler handler)
{
    struct local_directory *l = mem_zalloc(sizeof(*l));
    l->source = (struct dest_source){
        .find = directory_find, .cancel = directory_cancel, .refused = directory_refused};
    l->loop = loop;
    l->handler = handler;
    l->watch = l->inotify.fd = -1;
    list_init(&l->requests);
    task_init(&l->step);
    return l;
}

struct local_directory *local_directory_of(struct loop *loop, char *const *paths, size_t n,
                                           struct local_directory_handler handler,
                                           struct error *err)
{
    if (n > LOCAL_FILES_MAX) {
        error_set(err, FAIL_LIMIT, "%zu files are more than %d", n, LOCAL_FILES_MAX);
        return NULL;
    }
    struct local_directory *l = new_directory(loop, handler);
    for (size_t i = 0; i < n; i++) {
        if (!find_file(l, paths[i])) {
            add_file(l, paths[i]);
            sort_files(l);
        }
    }
    loop_soon(loop, &l->step, on_step);
    return l;
}

struct local_directory *local_directory_new(struct loop *loop, const char *dir,
                                            struct local_directory_handler handler,
                                            struct error *err)
{
    struct local_directory *l = new_directory(loop, handler);
    l->dir = mem_strdup(dir);
    for (size_t n = strlen(dir); n > 1 && dir[n - 1] == '/'; n--) {
        l->dir[n - 1] = '\0';
    }

    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0 || loop_add(loop, &l->inotify, fd, IO_KIND_DATA, on_inotify) < 0) {
        error_set(err, FAIL_INTERNAL, "%s: cannot be watched: %s", dir, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        local_directory_free(l);
        return NULL;
    }
    if (watch_directory(l) < 0) {
        error_set(err, FAIL_CONFIG, "%s: cannot be watched: %s; name a directory of JSON files",
                  dir, strerror(errno));
        local_directory_free(l);
        return NULL;
    }
    l->list_marked = true;
    loop_soon(loop, &l->step, on_step);
    return l;
}

void local_directory_free(struct local_directory *l)
{
    if (!l) {
        return;
    }
    assert(list_empty(&l->requests));
    task_cancel(&l->step);
    timer_cancel(l->loop, &l->timer);
    if (l->inotify.fd >= 0) {
        int fd = l->inotify.fd;
        loop_forget(l->loop, &l->inotify);
        close(fd);
    }
    for (size_t i = 0; i < l->n_files; i++) {
        file_free(l->files[i]);
    }
    table_free(l->table, l->n_table);
    complaint_free(&l->complaint);
    free(l->dir);
    free(l);
}

/* The output of `tproxy check`. */
#include "tproxy/check_print.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "configuration/proxy_status.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "tproxy/mailbox_text.h"

/* Maximum length of the kind and the names of an object. */
enum { LABEL_MAX = 1024 };

static const char *const verdicts[] = {[CHECK_IGNORED] = "ignored",
                                       [CHECK_OK] = "ok",
                                       [CHECK_UNKNOWN] = "unknown",
                                       [CHECK_WRONG] = "wrong"};
static_assert(ARRAY_LEN(verdicts) == CHECK_VERDICTS, "one word for each verdict");

/* The output has no maximum. */
static void check_added(int rc)
{
    assert(rc == OK);
    (void)rc;
}

/* ---- lines ---- */

/* Adds a line without control characters. */
static void put_line(struct check_print *p, const char *fmt, ...) printf_like(2, 3);
static void put_line(struct check_print *p, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    size_t n = (size_t)vsnprintf(NULL, 0, fmt, ap);
    char *text = mem_alloc(n + 1);
    vsnprintf(text, n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    text_sanitize(text);
    check_added(buf_fmt(&p->out, "%s\n", text));
    free(text);
}

static void put_mailbox_line(const char *text, void *arg)
{
    put_line(arg, "    %s", text);
}

static void put_target(struct check_print *p, const struct check_target *t)
{
    switch (t->verdict) {
    case CHECK_UNKNOWN:
        put_line(p,
                 "  %s: unknown: the Destination service has the destination \"%s\"; it is not "
                 "asked",
                 t->name, t->destination);
        break;
    case CHECK_WRONG:
        put_line(p, "  %s: wrong: %s: %s", t->name, t->reason, t->message);
        break;
    case CHECK_IGNORED:
    case CHECK_OK:
    case CHECK_VERDICTS:
        put_line(p, "  %s: ok", t->name);
        break;
    }
    if (t->dest) {
        mailbox_text_tell(t->dest, put_mailbox_line, p);
    }
    if (t->remark) {
        put_line(p, "    warning: %s", t->remark);
    }
}

static void put_condition(struct check_print *p, struct json_value condition)
{
    char *message = json_strdup(json_get(condition, "message"), NULL);
    if (proxy_status_is_problem(condition)) {
        put_line(p, "  wrong: %s", message ? message : "");
    } else if (proxy_status_is_ignored(condition)) {
        put_line(p, "  ignored: %s", message ? message : "");
    }
    free(message);
}

static void put_file(struct check_print *p, const struct check_file *f)
{
    char content[LABEL_MAX] = "";
    if (f->kind) {
        text_fmt(content, sizeof(content), ": %s %s%s%s", f->kind, f->namespace ? f->namespace : "",
                 f->namespace ? "/" : "", f->name);
    }
    put_line(p, "%s: %s%s%s%s", f->path, verdicts[f->verdict], content, f->remark ? ": " : "",
             f->remark ? f->remark : "");
    struct json_value conditions = json_get(f->status, "conditions");
    for (struct json_value c = json_first(conditions); json_exists(c); c = json_next(c)) {
        put_condition(p, c);
    }
    if (f->dest) {
        mailbox_text_tell(f->dest, put_mailbox_line, p);
    }
    LIST_EACH (it, f->targets) {
        put_target(p, container_of(it, struct check_target, link));
    }
}

static void put_sum(struct check_print *p)
{
    size_t n = 0;
    for (size_t i = 0; i < CHECK_VERDICTS; i++) {
        n += p->counts[i];
    }
    put_line(p, "%zu %s: %zu ok, %zu wrong, %zu unknown, %zu ignored", n, n == 1 ? "file" : "files",
             p->counts[CHECK_OK], p->counts[CHECK_WRONG], p->counts[CHECK_UNKNOWN],
             p->counts[CHECK_IGNORED]);
}

/* ---- JSON ---- */

/* Adds a member with a text, unless that is NULL. */
static void put_member(struct check_print *p, const char *name, const char *text)
{
    if (text) {
        check_added(buf_fmt(&p->out, ",\"%s\":", name) | json_fmt(&p->out, "%s", text));
    }
}

/* Adds what is known of a mailbox, unless that is NULL. */
static void put_mailbox_json(struct check_print *p, const struct destination *dest)
{
    if (dest) {
        check_added(buf_fmt(&p->out, ",\"mailbox\":") | mailbox_text_json(dest, &p->out));
    }
}

static void put_target_json(struct check_print *p, const struct check_target *t)
{
    check_added(json_fmt(&p->out, "{'name':%s,'verdict':%s", t->name, verdicts[t->verdict]));
    put_member(p, "reason", t->reason);
    put_member(p, "message", t->message);
    put_member(p, "remark", t->remark);
    put_member(p, "destination", t->destination[0] ? t->destination : NULL);
    put_mailbox_json(p, t->dest);
    check_added(buf_fmt(&p->out, "}"));
}

/* Adds the messages of those conditions of a TransparentProxy object that `selects` selects. */
static void put_messages(struct check_print *p, const char *name, struct json_value status,
                         bool (*selects)(struct json_value condition))
{
    struct json_value conditions = json_get(status, "conditions");
    const char *comma = "";
    check_added(buf_fmt(&p->out, ",\"%s\":[", name));
    for (struct json_value c = json_first(conditions); json_exists(c); c = json_next(c)) {
        struct str message = json_text(json_get(c, "message"));
        if (selects(c)) {
            check_added(buf_fmt(&p->out, "%s%.*s", comma, STR_ARG(message)));
            comma = ",";
        }
    }
    check_added(buf_fmt(&p->out, "]"));
}

static void put_file_json(struct check_print *p, const struct check_file *f)
{
    const char *comma = "";
    check_added(json_fmt(&p->out, "{'file':%s,'verdict':%s", f->path, verdicts[f->verdict]));
    put_member(p, "kind", f->kind);
    put_member(p, "namespace", f->namespace);
    put_member(p, "name", f->name);
    put_member(p, "remark", f->remark);
    if (json_exists(f->status)) {
        put_messages(p, "problems", f->status, proxy_status_is_problem);
        put_messages(p, "ignored", f->status, proxy_status_is_ignored);
    }
    put_mailbox_json(p, f->dest);
    check_added(buf_fmt(&p->out, ",\"targets\":["));
    LIST_EACH (it, f->targets) {
        check_added(buf_fmt(&p->out, "%s", comma));
        put_target_json(p, container_of(it, struct check_target, link));
        comma = ",";
    }
    check_added(buf_fmt(&p->out, "]}"));
}

/* ---- the face ---- */

enum check_verdict check_print_verdict(const struct check_print *p)
{
    enum check_verdict all = CHECK_OK;
    for (enum check_verdict v = CHECK_OK; v < CHECK_VERDICTS; v++) {
        all = p->counts[v] ? v : all;
    }
    return all;
}

void check_print_begin(struct check_print *p, bool json)
{
    *p = (struct check_print){.json = json};
    buf_init(&p->out, SIZE_MAX);
    if (json) {
        check_added(buf_fmt(&p->out, "{\"files\":["));
    }
}

void check_print_file(struct check_print *p, const struct check_file *file)
{
    bool first = true;
    for (size_t i = 0; i < CHECK_VERDICTS; i++) {
        first &= p->counts[i] == 0;
    }
    p->counts[file->verdict]++;
    if (p->json) {
        check_added(buf_fmt(&p->out, "%s", first ? "" : ","));
        put_file_json(p, file);
    } else {
        put_file(p, file);
    }
}

void check_print_end(struct check_print *p)
{
    if (p->json) {
        check_added(json_fmt(&p->out, "],'verdict':%s}", verdicts[check_print_verdict(p)]) |
                    buf_fmt(&p->out, "\n"));
    } else {
        put_sum(p);
    }
}

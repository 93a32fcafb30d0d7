/* Files of local mode. The form follows from the name: a README must not cause a complaint, and
 * "example-dest-pop3" is a destination as the BTP cockpit exports it. */
#include "local/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/destination.h"
#include "core/properties.h"
#include "lib/json.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "local/object.h"
#include "local/properties_file.h"

enum { TEXT_MAX = 640 };

/* ---- forms ---- */

static bool ends_in(const char *name, const char *suffix)
{
    size_t n = strlen(name), s = strlen(suffix);
    return n > s && text_ieq(name + n - s, suffix);
}

static bool ends_in_one_of(const char *name, const char *const *suffixes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ends_in(name, suffixes[i])) {
            return true;
        }
    }
    return false;
}

/* Endings of ignored files: backups and other remains of editors, files that somebody has switched
 * off, documents, programs, certificates. */
static const char *const passed_over[] = {
    "~",    ".bak",      ".old", ".orig", ".rej", ".swp", ".swo", ".tmp", ".part", ".log", ".md",
    ".rst", ".adoc",     ".htm", ".html", ".pdf", ".png", ".jpg", ".sh",  ".bat",  ".ps1", ".py",
    ".off", ".disabled", ".pem", ".crt",  ".cer", ".der", ".key", ".p12", ".pfx",  ".jks",
};

static const char *const archives[] = {".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"};

/* Names, with any extension, of files that often lie beside others. */
static const char *const companions[] = {"README",   "LICENSE",    "LICENCE",       "NOTICE",
                                         "COPYING",  "CHANGELOG",  "AUTHORS",       "CODEOWNERS",
                                         "Makefile", "Dockerfile", "Containerfile", "Jenkinsfile"};

static bool is_companion(const char *name)
{
    struct str rest = str_of(name), stem = str_cut(&rest, '.');
    for (size_t i = 0; i < ARRAY_LEN(companions); i++) {
        if (str_ieq(stem, companions[i])) {
            return true;
        }
    }
    return false;
}

enum local_form local_file_form(const char *name)
{
    if (name[0] == '.' || name[0] == '#' || is_companion(name) ||
        ends_in_one_of(name, passed_over, ARRAY_LEN(passed_over))) {
        return LOCAL_PASSED_OVER;
    }
    if (ends_in(name, ".json")) {
        return LOCAL_JSON;
    }
    if (ends_in(name, ".yaml") || ends_in(name, ".yml")) {
        return LOCAL_YAML;
    }
    if (ends_in_one_of(name, archives, ARRAY_LEN(archives))) {
        return LOCAL_ARCHIVE;
    }
    return !strchr(name, '.') || ends_in(name, ".properties") ? LOCAL_PROPERTIES : LOCAL_UNKNOWN;
}

/* ---- contents ---- */

/* Makes the contents of a destination. Their key begins with a slash, which no key of an object
 * does. */
static struct local_content content_of_destination(const struct destination *dest)
{
    size_t n = strlen(dest->name) + 2;
    struct local_content content = {.key = mem_alloc(n), .dest = dest};
    text_fmt(content.key, n, "/%s", dest->name);
    return content;
}

static struct local_content content_of_object(const struct local_object *object)
{
    size_t n = strlen(object->kind) + strlen(object->namespace) + strlen(object->name) + 3;
    struct local_content content = {.key = mem_alloc(n), .object = object};
    text_fmt(content.key, n, "%s/%s/%s", object->kind, object->namespace, object->name);
    return content;
}

struct local_content local_content_ref(const struct local_content *from)
{
    return (struct local_content){
        .key = mem_strdup(from->key),
        .dest = from->dest ? destination_ref(from->dest) : NULL,
        .object = from->object ? local_object_ref(from->object) : NULL,
    };
}

static void refusal_free(struct local_refusal *refusal)
{
    if (refusal) {
        free(refusal->name);
        free(refusal);
    }
}

void local_content_clear(struct local_content *content)
{
    free(content->key);
    destination_unref(content->dest);
    local_object_unref(content->object);
    refusal_free(content->refusal);
    *content = (struct local_content){0};
}

bool local_content_equal(const struct local_content *a, const struct local_content *b)
{
    if (a->dest) {
        return destination_equal(a->dest, b->dest);
    }
    assert(a->object && b->object); /* equal keys mean contents of one sort */
    return a->object->digest == b->object->digest;
}

/* ---- bytes ---- */

/* The work of one local_file_read. */
struct reading {
    const char *path, *name;
    enum local_form form;
    bool stands_in;
    struct local_content *content;
    struct local_refusal *refusal;
    char *complaint;
};

static void file_complain(struct reading *r, const char *text)
{
    text_fmt(r->complaint, LOCAL_COMPLAINT_MAX, "%s", text);
}

/* Complains and keeps the last good version, because the file may be half written. */
static void keep(struct reading *r, const char *text)
{
    text_fmt(r->complaint, LOCAL_COMPLAINT_MAX, "%s%s", text,
             r->content->key ? "; the last good version stays in force" : "");
}

static void replace(struct reading *r, struct local_content content)
{
    local_content_clear(r->content);
    *r->content = content;
}

/* Opens a regular file. Returns -1 when the path is something else, with a complaint if it may have
 * been meant as a file. */
static int open_file(struct reading *r, size_t *size)
{
    /* without blocking, because the path may be a FIFO */
    int fd = open(r->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    struct stat st = {0};
    char text[128];
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        *size = st.st_size < LOCAL_FILE_SIZE_MAX ? (size_t)st.st_size : LOCAL_FILE_SIZE_MAX;
        return fd;
    }
    if (fd < 0) {
        text_fmt(text, sizeof(text), "cannot be opened: %s", strerror(errno));
        keep(r, text);
        return -1;
    }
    close(fd);
    if (r->form == LOCAL_JSON) {
        keep(r, "is not a regular file");
    } else {
        replace(r, (struct local_content){0});
    }
    return -1;
}

/* Returns the bytes, NUL-terminated, which the caller wipes; NULL when they cannot be read. */
static char *read_all(struct reading *r, size_t *n)
{
    char problem[128];
    size_t size;
    int fd = open_file(r, &size);
    if (fd < 0) {
        return NULL;
    }
    size_t cap = size + 1;
    char *text = mem_alloc(cap + 1);
    ssize_t got;
    *n = 0;
    do {
        got = read(fd, text + *n, cap - *n);
        *n += got > 0 ? (size_t)got : 0;
    } while (got > 0 && *n < cap);
    int saved = errno;
    close(fd);
    if (got < 0) {
        text_fmt(problem, sizeof(problem), "cannot be read: %s", strerror(saved));
    } else if (*n > LOCAL_FILE_SIZE_MAX) {
        text_fmt(problem, sizeof(problem), "is larger than %d bytes", LOCAL_FILE_SIZE_MAX);
    } else if (*n == cap) {
        text_fmt(problem, sizeof(problem), "grew while it was read");
    } else {
        text[*n] = '\0';
        return text;
    }
    keep(r, problem);
    mem_wipe(text, *n);
    free(text);
    return NULL;
}

/* ---- destinations and objects ---- */

/* Notes why a destination cannot be used, unless it has no name. */
static void note_refusal(struct reading *r, const char *name,
                         const struct destination_problem *problem)
{
    if (name) {
        r->refusal = mem_zalloc(sizeof(*r->refusal));
        r->refusal->name = mem_strdup(name);
        r->refusal->verdict = problem->verdict;
        error_set(&r->refusal->err, FAIL_CONFIG, "%s: %s", problem->field, problem->text);
    }
}

/* Returns a property whose value is the cockpit's placeholder for a secret; or NULL. */
static const struct property *find_placeholder(const struct properties *props)
{
    for (size_t i = 0; i < props->n; i++) {
        if (str_istarts(str_of(props->list[i].value), "<< Existing password/certificate removed")) {
            return &props->list[i];
        }
    }
    return NULL;
}

/* Makes a destination of *props, which are freed. Returns NULL when they are not a usable one;
 * `text` then names field and remedy. */
static const struct destination *destination_of(struct reading *r, struct properties *props,
                                                char text[static TEXT_MAX])
{
    struct destination_problem problem = {0};
    const struct property *placeholder = r->stands_in ? NULL : find_placeholder(props);
    const struct destination *dest =
        placeholder ? NULL : destination_new(props, !r->stands_in, &problem);
    if (placeholder) {
        text_fmt(text, TEXT_MAX, "%s: the BTP cockpit leaves this value out of an export; add it",
                 placeholder->name);
    } else if (!dest) {
        note_refusal(r, properties_get(props, "Name", NULL), &problem);
        text_fmt(text, TEXT_MAX, "%s: %s (%s)", problem.field, problem.text,
                 verdict_reason(problem.verdict, false));
    }
    properties_free(props);
    return dest;
}

/* Reads a JSON document. It replaces the content even if it is not usable. */
static void take_document(struct reading *r, struct json_value root)
{
    struct error err = {0};
    char text[TEXT_MAX] = "";
    struct local_content content = {0};
    if (local_object_is(root)) {
        const struct local_object *object = local_object_new(root, &err);
        content = object ? content_of_object(object) : content;
    } else {
        struct properties *props = properties_from_json(root, &err);
        const struct destination *dest = props ? destination_of(r, props, text) : NULL;
        content = dest ? content_of_destination(dest) : content;
    }
    if (!content.key) {
        file_complain(r, text[0] ? text : err.text);
    }
    replace(r, content);
}

static void take_json(struct reading *r, struct str text)
{
    struct error err;
    struct json *doc = json_parse(text, &err);
    if (doc) {
        take_document(r, json_root(doc));
    } else {
        keep(r, err.text);
    }
    json_free(doc);
}

static void take_properties(struct reading *r, struct str text)
{
    struct error err;
    char problem[TEXT_MAX];
    struct properties *props = properties_from_file(text, &err);
    if (!props) {
        keep(r, err.text);
        return;
    }
    if (!properties_get(props, "Name", NULL) && !properties_get(props, "Type", NULL)) {
        properties_free(props);
        keep(r,
             "is neither JSON nor a properties file with the lines Name=... and Type=MAIL; export "
             "the destination from the BTP cockpit as JSON, or take the file away");
        return;
    }
    const struct destination *dest = destination_of(r, props, problem);
    if (dest) {
        replace(r, content_of_destination(dest));
    } else {
        keep(r, problem);
    }
}

static bool begins_like_json(struct str text)
{
    text = text_without_bom(text);
    while (text.n && strchr(" \t\r\n", text.p[0])) {
        text = (struct str){text.p + 1, text.n - 1};
    }
    return text.n && text.p[0] == '{';
}

/* ---- forms that are not read ---- */

/* Returns how many lines begin with `word`. */
static unsigned count_lines(struct str text, const char *word)
{
    unsigned n = 0;
    while (text.n) {
        n += str_istarts(str_cut(&text, '\n'), word);
    }
    return n;
}

/* Returns the quotation mark that the path needs in a shell, or "" if it has no unusual
 * character. */
static const char *quotes_for(const char *path)
{
    static const char usual[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789-_./+@%:,";
    return path[strspn(path, usual)] ? "'" : "";
}

/* Complains about a YAML file, and names the command that converts it. kubectl converts without a
 * cluster. It writes one document after the other, so a file must hold one object. */
static void refuse_yaml(struct reading *r, struct str text)
{
    unsigned objects = count_lines(text, "apiVersion:");
    bool several = objects > 1 || count_lines(text, "kind: List");
    int stem = (int)(strrchr(r->path, '.') - r->path);
    const char *quote = quotes_for(r->path);
    if (objects == 0) {
        file_complain(r,
                      "is YAML, which is not read; export the destination from the BTP cockpit as "
                      "JSON");
        return;
    }
    text_fmt(r->complaint, LOCAL_COMPLAINT_MAX,
             "is YAML, and only JSON is read; %s: kubectl patch --local --type=merge -p '{}' -o "
             "json -f %s%s%s > %s%.*s.json%s",
             several ? "put each object into a file of its own, and convert each with"
                     : "convert it with",
             quote, r->path, quote, quote, stem, r->path, quote);
}

/* Complains about a file of unknown form. A name like "mail.json.txt", which Windows shows as
 * "mail.json", says what was meant. */
static void refuse_unknown(struct reading *r)
{
    int stem = (int)(strrchr(r->name, '.') - r->name);
    char inner[256];
    text_fmt(inner, sizeof(inner), "%.*s", stem, r->name);
    if (ends_in(inner, ".json") || ends_in(inner, ".properties")) {
        text_fmt(r->complaint, LOCAL_COMPLAINT_MAX, "is not read; rename it to %s", inner);
    } else {
        text_fmt(r->complaint, LOCAL_COMPLAINT_MAX,
                 "is not read; if it is a destination, rename it: to %s.json if it holds JSON, to "
                 "%s.properties if it has lines Name=...",
                 inner, inner);
    }
}

static void take_text(struct reading *r, struct str text)
{
    if (text_is_utf16(text)) {
        keep(r, "is UTF-16: save it as UTF-8");
    } else if (r->form == LOCAL_YAML) {
        refuse_yaml(r, text);
    } else if (text.n == 0) {
        keep(r, "is empty; put a destination here");
    } else if (r->form == LOCAL_JSON || begins_like_json(text)) {
        take_json(r, text);
    } else {
        take_properties(r, text);
    }
}

static bool is_regular(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

void local_file_read(const char *path, const char *name, bool stands_in,
                     struct local_content *content, char complaint[static LOCAL_COMPLAINT_MAX])
{
    struct reading r = {.path = path,
                        .name = name,
                        .form = local_file_form(name),
                        .stands_in = stands_in,
                        .content = content,
                        .complaint = complaint};
    size_t n = 0;
    char *text;
    complaint[0] = '\0';
    switch (r.form) {
    case LOCAL_JSON:
    case LOCAL_PROPERTIES:
    case LOCAL_YAML:
        text = read_all(&r, &n);
        if (text) {
            take_text(&r, (struct str){text, n});
            mem_wipe(text, n);
            free(text);
        }
        break;
    case LOCAL_ARCHIVE:
        if (is_regular(path)) {
            file_complain(&r, "is an archive, which is not read; unpack it here");
        }
        break;
    case LOCAL_UNKNOWN:
        if (is_regular(path)) {
            refuse_unknown(&r);
        }
        break;
    case LOCAL_PASSED_OVER:
        break;
    }
    refusal_free(content->refusal);
    content->refusal = r.refusal;
}

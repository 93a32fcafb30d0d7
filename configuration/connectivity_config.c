/* Reads the ConfigMaps of the Connectivity Proxy. The reader of YAML goes through the lines, tracks
 * the path of keys that leads to each line, and keeps the values of the wanted paths. */
#include "configuration/connectivity_config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

/* Maximum number of keys in a path, and the sizes of a path and of a value with their NUL. */
enum { DEPTH_MAX = 16, KEYS_MAX = 128, VALUE_MAX = 64 };

enum { TENANT_MODE, AUTHORIZATION, PORT, WANTED_COUNT };

static const char *const wanted_paths[WANTED_COUNT] = {
    [TENANT_MODE] = "tenantMode",
    [AUTHORIZATION] = "servers.proxy.socks5.enableProxyAuthorization",
    [PORT] = "servers.proxy.socks5.port",
};

struct value {
    bool given;
    char text[VALUE_MAX]; /* "": null */
};

/* A key or a list item to which the next lines may belong. */
struct level {
    size_t indent;
    struct str key; /* empty: a list item */
};

struct reader {
    struct level levels[DEPTH_MAX];
    size_t depth;
    unsigned line;
    bool skips; /* skip deeper lines than the last key's, because they continue its value */
    bool ended;
    struct value values[WANTED_COUNT];
    struct error *err;
};

static int yaml_refuse(const struct reader *r, const char *fmt, ...) printf_like(2, 3);

static int yaml_refuse(const struct reader *r, const char *fmt, ...)
{
    char what[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    return error_set(r->err, FAIL_CONFIG, "line %u: %s", r->line, what);
}

/* ---- one line ---- */

/* Returns the text without its comment, which is a '#' at the start or after a blank and all that
 * follows. A '#' in quotes counts, too, so a caller that needs the text takes quoted text off
 * first. */
static struct str without_comment(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '#' && (i == 0 || s.p[i - 1] == ' ' || s.p[i - 1] == '\t')) {
            s.n = i;
        }
    }
    return str_trim(s);
}

/* Takes a quoted text off the start of *s. Returns AGAIN when *s does not begin with quotes. */
static int take_quoted(const struct reader *r, struct str *s, struct str *text)
{
    if (s->n == 0 || (s->p[0] != '"' && s->p[0] != '\'')) {
        return AGAIN;
    }
    const char *end = memchr(s->p + 1, s->p[0], s->n - 1);
    if (!end || memchr(s->p, '\\', (size_t)(end - s->p)) ||
        (end + 1 < s->p + s->n && end[1] == s->p[0])) {
        return yaml_refuse(r, "a quoted text does not end, or contains quotes or \\");
    }
    *text = (struct str){s->p + 1, (size_t)(end - s->p) - 1};
    s->n -= (size_t)(end + 1 - s->p);
    s->p = end + 1;
    return OK;
}

/* Splits "key: value" in *rest: takes off the key and leaves the value. */
static int take_key(const struct reader *r, struct str *rest, struct str *key)
{
    int rc = take_quoted(r, rest, key);
    if (rc == ERR) {
        return ERR;
    }
    size_t n = 0;
    while (n < rest->n &&
           !(rest->p[n] == ':' && (n + 1 == rest->n || strchr(" \t", rest->p[n + 1])))) {
        n++;
    }
    if (n == rest->n || (rc == OK && str_trim((struct str){rest->p, n}).n)) {
        return yaml_refuse(r, "it is neither \"key: value\" nor a comment");
    }
    if (rc == AGAIN) {
        *key = str_trim((struct str){rest->p, n});
    }
    rest->p += n + 1;
    rest->n -= n + 1;
    *rest = str_trim(*rest);
    return OK;
}

static void path_of(const struct reader *r, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < r->depth && n < cap; i++) {
        struct str key = r->levels[i].key;
        n += text_fmt(out + n, cap - n, "%s%.*s", i ? "." : "", (int)(key.n < cap ? key.n : cap),
                      key.p);
    }
}

/* Tells whether the path is a wanted one or the beginning of one. */
static bool concerns_us(const char *path)
{
    size_t n = strlen(path);
    for (size_t i = 0; i < WANTED_COUNT; i++) {
        const char *wanted = wanted_paths[i];
        if (strncmp(path, wanted, n) == 0 && (wanted[n] == '.' || wanted[n] == '\0')) {
            return true;
        }
    }
    return false;
}

static int keep(struct reader *r, const char *path, struct str value)
{
    for (size_t i = 0; i < WANTED_COUNT; i++) {
        struct value *v = &r->values[i];
        if (strcmp(path, wanted_paths[i]) != 0) {
            continue;
        }
        if (v->given) {
            return yaml_refuse(r, "%s is set twice", path);
        }
        if (value.n >= sizeof(v->text)) {
            return yaml_refuse(r, "%s has more than %zu octets", path, sizeof(v->text) - 1);
        }
        v->given = true;
        text_fmt(v->text, sizeof(v->text), "%.*s", STR_ARG(value));
    }
    return OK;
}

static bool is_null(struct str plain)
{
    return str_eq(plain, "~") || str_ieq(plain, "null");
}

/* Reads the value of a key that concerns us. */
static int read_value(struct reader *r, const char *path, struct str rest)
{
    struct str value;
    int rc = take_quoted(r, &rest, &value);
    if (rc == ERR) {
        return ERR;
    }
    struct str left = without_comment(rest);
    if (rc == OK && left.n) {
        return yaml_refuse(r, "%s has text after its closing quote", path);
    }
    if (rc == AGAIN && left.n && strchr("{[|>&*!%@`", left.p[0])) {
        return yaml_refuse(
            r, "%s has a form that is not supported; write a plain value in block style", path);
    }
    if (rc == AGAIN) {
        value = is_null(left) ? str_of("") : left;
    }
    return keep(r, path, value);
}

static int enter(struct reader *r, size_t indent, struct str key)
{
    if (r->depth == DEPTH_MAX) {
        return yaml_refuse(r, "keys are nested more than %d deep", DEPTH_MAX);
    }
    r->levels[r->depth++] = (struct level){indent, key};
    return OK;
}

static int read_key(struct reader *r, size_t indent, struct str rest)
{
    char path[KEYS_MAX];
    struct str key;
    if (take_key(r, &rest, &key) == ERR || enter(r, indent, key) == ERR) {
        return ERR;
    }
    path_of(r, path, sizeof(path));
    r->skips = without_comment(rest).n > 0;
    return concerns_us(path) ? read_value(r, path, rest) : OK;
}

/* Reads "---" or "...". The rest of the text is not read after "...". */
static int read_mark(struct reader *r, struct str line)
{
    bool begun = r->depth > 0;
    r->ended = r->ended || str_eq(line, "...");
    return begun && !r->ended ? yaml_refuse(r, "a second document begins") : OK;
}

static int read_line(struct reader *r, struct str line)
{
    size_t indent = 0;
    line.n -= line.n && line.p[line.n - 1] == '\r';
    while (indent < line.n && line.p[indent] == ' ') {
        indent++;
    }
    struct str rest = str_trim(line);
    if (rest.n == 0 || rest.p[0] == '#') {
        return OK;
    }
    if (r->skips && indent > r->levels[r->depth - 1].indent) {
        char path[KEYS_MAX];
        path_of(r, path, sizeof(path));
        return concerns_us(path) ? yaml_refuse(r, "%s extends over several lines", path) : OK;
    }
    if (str_eq(rest, "---") || str_eq(rest, "...")) {
        return read_mark(r, rest);
    }
    if (line.p[indent] == '\t') {
        return yaml_refuse(r, "it begins with a tab, which YAML forbids");
    }
    r->skips = false;
    while (r->depth && r->levels[r->depth - 1].indent >= indent) {
        r->depth--;
    }
    if (rest.p[0] == '-' && (rest.n == 1 || rest.p[1] == ' ')) {
        r->skips = true;
        return enter(r, indent, str_of(""));
    }
    return read_key(r, indent, rest);
}

/* ---- values ---- */

static int read_flag(const struct value *v, const char *path, bool *flag, struct error *err)
{
    *flag = text_ieq(v->text, "true");
    if (!*flag && !text_ieq(v->text, "false")) {
        return error_set(err, FAIL_CONFIG, "%s is \"%s\"; it must be true or false", path, v->text);
    }
    return OK;
}

static int read_port(const char *text, const char *path, uint16_t *port, struct error *err)
{
    uint64_t number;
    if (text_number(str_of(text), UINT16_MAX, &number) == ERR || number == 0) {
        return error_set(err, FAIL_CONFIG, "%s is \"%s\"; it must be a port", path, text);
    }
    *port = (uint16_t)number;
    return OK;
}

static int judge(const struct value values[WANTED_COUNT], struct connectivity_config *config,
                 struct error *err)
{
    for (size_t i = 0; i < WANTED_COUNT; i++) {
        if (i != PORT && !values[i].text[0]) {
            return error_set(err, FAIL_CONFIG, "it does not set %s", wanted_paths[i]);
        }
    }
    const char *mode = values[TENANT_MODE].text;
    config->shared = text_ieq(mode, "shared");
    if (!config->shared && !text_ieq(mode, "dedicated")) {
        return error_set(err, FAIL_CONFIG, "tenantMode is \"%s\"; it must be dedicated or shared",
                         mode);
    }
    const char *port = values[PORT].text;
    if (port[0] && read_port(port, wanted_paths[PORT], &config->port, err) == ERR) {
        return ERR;
    }
    return read_flag(&values[AUTHORIZATION], wanted_paths[AUTHORIZATION], &config->authorization,
                     err);
}

int connectivity_config_read(struct str yaml, struct connectivity_config *config, struct error *err)
{
    struct reader r = {.err = err};
    *config = (struct connectivity_config){0};
    while (yaml.n && !r.ended) {
        r.line++;
        if (read_line(&r, str_cut(&yaml, '\n')) == ERR) {
            return ERR;
        }
    }
    return judge(r.values, config, err);
}

/* ---- ConfigMaps ---- */

/* Returns a copy of an entry, which the caller frees, and its length in *n. Returns NULL and *err
 * when the map has no such entry. */
static char *entry(struct json_value map, const char *key, size_t *n, struct error *err)
{
    struct json_value value = json_get(json_get(map, "data"), key);
    if (json_type(value) != JSON_STRING) {
        error_set(err, FAIL_CONFIG, "it has no entry %s", key);
        return NULL;
    }
    return json_strdup(value, n);
}

int connectivity_config_of_map(struct json_value map, struct connectivity_config *config,
                               struct error *err)
{
    static const char key[] = "connectivity-proxy-config.yml";
    struct error why;
    size_t n;
    char *text = entry(map, key, &n, err);
    if (!text) {
        return ERR;
    }
    int rc = connectivity_config_read((struct str){text, n}, config, &why);
    free(text);
    return rc == OK ? OK : error_set(err, FAIL_CONFIG, "%s: %s", key, why.text);
}

int connectivity_address_of_map(struct json_value map, struct connectivity_address *address,
                                struct error *err)
{
    static const char host_key[] = "onpremise_proxy_host",
                      port_key[] = "onpremise_socks5_proxy_port";
    size_t n, ignored;
    *address = (struct connectivity_address){.port = 0};
    char *host = entry(map, host_key, &n, err);
    char *port = host ? entry(map, port_key, &ignored, err) : NULL;
    int rc = port ? read_port(port, port_key, &address->port, err) : ERR;
    if (rc == OK &&
        (n == 0 || n > CONNECTIVITY_HOST_MAX || text_has_control((struct str){host, n}))) {
        rc = error_set(err, FAIL_CONFIG, "%s is not a host name", host_key);
    } else if (rc == OK) {
        text_fmt(address->host, sizeof(address->host), "%s", host);
    }
    free(host);
    free(port);
    return rc;
}

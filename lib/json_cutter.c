/* Cuts single objects out of JSON that comes in pieces.
 *
 *   stream    BETWEEN --{--> VALUE --its end: cut out--> BETWEEN
 *
 *   list      START --{--> NEXT_NAME --"--> NAME --"--> COLON --:--> MEMBER
 *                             ^                                        |
 *                             ,                                        |-- metadata, others
 *                             |                                        v
 *                 END <--}-- AFTER <----------------------------- VALUE or SCALAR
 *                             ^
 *                             ]
 *             items: MEMBER --[--> FIRST_ITEM --{--> VALUE --> AFTER_ITEM --,--> ITEM --{--> VALUE
 *
 * Octets of a VALUE are only counted: its depth says where it ends. Every other octet is a step.
 *
 * Inside an object that is cut out:
 *
 *   names of members, braces --a value that may be left out--> in_member --its end--> names
 *                                                                 |   ^
 *                                                  too large, ... v   | its end
 *                                                              leaving_out */
#include "lib/json_cutter.h"

#include <assert.h>
#include <string.h>

#include "lib/json.h"

enum state {
    BETWEEN,
    START,
    NEXT_NAME,
    NAME,
    COLON,
    MEMBER,
    SCALAR,
    VALUE,
    AFTER,
    FIRST_ITEM,
    ITEM,
    AFTER_ITEM,
    END,
    BAD,
};

/* Members of the list. An object of the stream counts as one of the items. */
enum member { OTHER, ITEMS = 1, METADATA = 2 };

void json_cutter_init(struct json_cutter *c, enum json_cutter_form form,
                      struct json_cutter_rules rules)
{
    assert(rules.level > 0 && rules.level <= JSON_CUTTER_LEVEL_MAX);
    *c = (struct json_cutter){.form = form, .rules = rules};
    c->state = form == JSON_CUTTER_LIST ? START : BETWEEN;
    c->member = form == JSON_CUTTER_LIST ? OTHER : ITEMS;
    buf_init(&c->object, JSON_CUTTER_MAX);
    buf_init(&c->metadata, JSON_CUTTER_MAX);
}

void json_cutter_free(struct json_cutter *c)
{
    buf_wipe(&c->object); /* it may hold a Secret */
    buf_free(&c->metadata);
}

/* ---- between values ---- */

static bool is_space(char o)
{
    return o == ' ' || o == '\t' || o == '\n' || o == '\r';
}

/* Tells whether the octet can be part of a number, true, false or null. */
static bool is_scalar(char o)
{
    return (o >= '0' && o <= '9') || (o >= 'a' && o <= 'z') || o == 'E' || o == '+' || o == '-' ||
           o == '.';
}

static void add_to_word(struct json_cutter *c, char o)
{
    if (c->word_n < sizeof(c->word)) {
        c->word[c->word_n++] = o;
    }
}

static bool word_is(const struct json_cutter *c, const char *text)
{
    return str_eq((struct str){c->word, c->word_n}, text);
}

static enum state expect(char o, char wanted, enum state next)
{
    return o == wanted ? next : BAD;
}

static enum state begin_name(struct json_cutter *c, char o)
{
    c->word_n = 0;
    return expect(o, '"', NAME);
}

/* Takes an octet of a member's name. A name with an escape in it is not one that matters here. */
static enum state step_name(struct json_cutter *c, char o)
{
    if (o == '"' && !c->escaped) {
        if (word_is(c, "items")) {
            c->member = ITEMS;
        } else {
            c->member = word_is(c, "metadata") ? METADATA : OTHER;
        }
        bool again = c->seen & (unsigned)c->member;
        c->seen |= (unsigned)c->member;
        return again ? BAD : COLON;
    }
    c->escaped = o == '\\' && !c->escaped;
    add_to_word(c, o);
    return NAME;
}

/* Takes an octet of a scalar, which ends only with the octet behind it. */
static enum state step_scalar(struct json_cutter *c, char o)
{
    if (is_scalar(o)) {
        add_to_word(c, o);
        return SCALAR;
    }
    return c->member == ITEMS && !word_is(c, "null") ? BAD : AFTER;
}

static enum state begin_scalar(struct json_cutter *c, char o)
{
    c->word_n = 0;
    return is_scalar(o) ? step_scalar(c, o) : BAD;
}

static enum state begin_member(struct json_cutter *c, char o)
{
    switch ((enum member)c->member) {
    case ITEMS:
        return o == '[' ? FIRST_ITEM : begin_scalar(c, o);
    case METADATA:
        return expect(o, '{', VALUE);
    case OTHER:
        break;
    }
    return o == '{' || o == '[' || o == '"' ? VALUE : begin_scalar(c, o);
}

/* Ends the list. A list without `items` is refused, because it does not say that there are none. */
static enum state end_list(const struct json_cutter *c, char o)
{
    return c->seen & ITEMS ? expect(o, '}', END) : BAD;
}

/* Returns the state after an octet that is not in a value. */
static enum state cutter_step(struct json_cutter *c, char o)
{
    enum state state = (enum state)c->state;
    if (is_space(o) && state != NAME && state != SCALAR) {
        return state;
    }
    switch (state) {
    case BETWEEN:
    case ITEM:
        return expect(o, '{', VALUE);
    case START:
        return expect(o, '{', NEXT_NAME);
    case NEXT_NAME:
        return begin_name(c, o);
    case NAME:
        return step_name(c, o);
    case COLON:
        return expect(o, ':', MEMBER);
    case MEMBER:
        return begin_member(c, o);
    case SCALAR:
        return step_scalar(c, o);
    case AFTER:
        return o == ',' ? NEXT_NAME : end_list(c, o);
    case FIRST_ITEM:
        return o == ']' ? AFTER : expect(o, '{', VALUE);
    case AFTER_ITEM:
        return o == ',' ? ITEM : expect(o, ']', AFTER);
    case VALUE:
    case END:
    case BAD:
        break;
    }
    return BAD;
}

/* ---- values that are not looked into ---- */

/* Takes the next octet of a string, which it may end. */
static void step_string(struct json_cutter *c, char o)
{
    c->in_string = o != '"' || c->escaped;
    c->escaped = o == '\\' && !c->escaped;
}

/* Keeps track of strings. Returns whether the next octet belongs to one, its quotes included. */
static bool is_in_string(struct json_cutter *c, char o)
{
    if (!c->in_string) {
        c->in_string = o == '"';
        return c->in_string;
    }
    step_string(c, o);
    return true;
}

/* Returns how many octets of `in` belong to the value. *ended: the value is complete with them. */
static size_t measure(struct json_cutter *c, struct str in, bool *ended)
{
    *ended = false;
    for (size_t i = 0; i < in.n; i++) {
        char o = in.p[i];
        if (is_in_string(c, o)) {
            *ended = !c->in_string && c->depth == 0;
        } else if (o == '{' || o == '[') {
            c->depth++;
        } else if (o == '}' || o == ']') {
            *ended = --c->depth == 0;
        }
        if (*ended) {
            return i + 1;
        }
    }
    return in.n;
}

static struct str take(struct str *in, size_t n)
{
    struct str piece = {in->p, n};
    in->p += n;
    in->n -= n;
    return piece;
}

static int keep(struct buf *to, struct str piece, struct error *err)
{
    return buf_add(to, piece.p, piece.n) == OK
               ? OK
               : error_set(err, FAIL_LIMIT, "an object is larger than %d octets", JSON_CUTTER_MAX);
}

/* Takes a value of the list that is not an item: keeps the metadata and drops any other. */
static int take_other(struct json_cutter *c, struct str *in, struct error *err)
{
    bool ended;
    struct str piece = take(in, measure(c, *in, &ended));
    if (ended) {
        c->state = AFTER;
    }
    return c->member == METADATA ? keep(&c->metadata, piece, err) : OK;
}

/* ---- members of an object ---- */

static void add_to_path(struct json_cutter *c, char o)
{
    if (c->path_n < sizeof(c->path)) {
        c->path[c->path_n++] = o;
    }
}

/* Enters an object whose members are examined, at its brace. */
static void enter(struct json_cutter *c)
{
    if (c->depth > 0) {
        add_to_path(c, '.');
    } else {
        c->path_n = 0;
    }
    c->depth++;
    c->prefix[c->depth] = c->path_n;
    c->value_due = false;
}

/* Returns how many octets belong to names and braces, up to the beginning of a value that may be
 * left out, or to the end of the object. */
static size_t measure_names(struct json_cutter *c, struct str in)
{
    for (size_t i = 0; i < in.n; i++) {
        char o = in.p[i];
        bool space = is_space(o);
        if (c->in_string) {
            step_string(c, o);
            if (c->in_string) {
                add_to_path(c, o);
            }
        } else if (o == '{' && (c->depth == 0 || (c->value_due && c->depth < c->rules.level))) {
            enter(c);
        } else if (o == '}' || o == ']') {
            c->value_due = false;
            if (--c->depth == 0) {
                return i + 1;
            }
        } else if (o == '{' || o == '[' || (c->value_due && !space)) {
            c->in_member = true;
            return i;
        } else if (o == '"') {
            c->in_string = true;
            c->path_n = c->prefix[c->depth];
        } else {
            c->value_due = o == ':' || (space && c->value_due);
        }
    }
    return in.n;
}

static bool is_unread(const struct json_cutter *c)
{
    const char *const *name = c->rules.unread;
    size_t start = c->prefix[c->rules.level - 1];
    bool inside = c->depth + 1 >= c->rules.level;
    while (inside && name && *name &&
           !str_eq((struct str){c->path + start, c->path_n - start}, *name)) {
        name++;
    }
    return inside && name && *name;
}

/* Puts JSON_OMISSION in place of the value. ERR and *err: not even this fits. */
static int leave_out(struct json_cutter *c, struct error *err)
{
    static const char omission = JSON_OMISSION;
    c->leaving_out = true;
    buf_truncate(&c->object, c->member_start);
    return keep(&c->object, (struct str){&omission, 1}, err);
}

static int begin_member_value(struct json_cutter *c, struct error *err)
{
    c->value_due = false;
    c->leaving_out = false;
    c->member_depth = c->depth;
    c->member_start = buf_len(&c->object);
    return is_unread(c) ? leave_out(c, err) : OK;
}

/* Returns how many octets of `in` belong to the value of a member, up to the octet behind it.
 * *deep: the value is nested too deeply. */
static size_t measure_member(struct json_cutter *c, struct str in, bool *deep)
{
    *deep = false;
    for (size_t i = 0; i < in.n; i++) {
        char o = in.p[i];
        if (is_in_string(c, o)) {
            continue;
        }
        if (o == '{' || o == '[') {
            *deep |= ++c->depth - c->member_depth > JSON_CUTTER_DEPTH;
        } else if (c->depth == c->member_depth && (o == ',' || o == '}' || o == ']')) {
            c->in_member = false;
            return i;
        } else if (o == '}' || o == ']') {
            c->depth--;
        }
    }
    return in.n;
}

static int take_member(struct json_cutter *c, struct str *in, struct error *err)
{
    bool deep;
    struct str piece = take(in, measure_member(c, *in, &deep));
    bool full = c->member_start > JSON_CUTTER_MAX / 2;
    size_t max = full ? JSON_CUTTER_SHORT : c->rules.value_max;
    if (c->leaving_out) {
        return OK;
    }
    if (deep || piece.n > max || buf_len(&c->object) - c->member_start > max - piece.n) {
        c->left_out++;
        return leave_out(c, err);
    }
    return keep(&c->object, piece, err);
}

/* Takes octets of an object off *in. OK: the object is complete. AGAIN: go on. */
static int take_object(struct json_cutter *c, struct str *in, struct error *err)
{
    if (c->in_member) {
        return take_member(c, in, err) == OK ? AGAIN : ERR;
    }
    if (keep(&c->object, take(in, measure_names(c, *in)), err) < 0 ||
        (c->in_member && begin_member_value(c, err) < 0)) {
        return ERR;
    }
    return c->depth == 0 ? OK : AGAIN;
}

/* ---- octets ---- */

/* Takes the octets of the value off *in. OK: *object has been cut out. AGAIN: go on. */
static int take_value(struct json_cutter *c, struct str *in, struct str *object, struct error *err)
{
    int res = c->member == ITEMS             ? take_object(c, in, err)
              : take_other(c, in, err) == OK ? AGAIN
                                             : ERR;
    if (res == OK) {
        c->state = c->form == JSON_CUTTER_STREAM ? BETWEEN : AFTER_ITEM;
        *object = buf_str(&c->object);
    } else if (res == ERR) {
        c->state = BAD;
    }
    return res;
}

int json_cutter_next(struct json_cutter *c, struct str *in, struct str *object, struct error *err)
{
    int res = AGAIN;
    if (c->state != VALUE) { /* the object that was cut out last is not needed any more */
        buf_wipe(&c->object);
        c->left_out = 0;
    }
    while (in->n && res == AGAIN) {
        if (c->state == VALUE) {
            res = take_value(c, in, object, err);
            continue;
        }
        bool in_scalar = c->state == SCALAR;
        c->state = cutter_step(c, in->p[0]);
        if (c->state == BAD) {
            return error_set(err, FAIL_PROTOCOL, "malformed JSON where %s should be",
                             c->form == JSON_CUTTER_LIST ? "a list" : "an object");
        }
        /* The octet that begins a value and the one that ends a scalar are not used up here. */
        if (c->state != VALUE && !(in_scalar && c->state == AFTER)) {
            in->p++;
            in->n--;
        }
    }
    return res;
}

unsigned json_cutter_left_out(const struct json_cutter *c)
{
    return c->left_out;
}

bool json_cutter_done(const struct json_cutter *c)
{
    return c->state == BETWEEN || c->state == END;
}

struct str json_cutter_metadata(const struct json_cutter *c)
{
    return buf_str(&c->metadata);
}

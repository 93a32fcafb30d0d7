/* Single objects cut out of JSON that comes in pieces.
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
 * Octets of a VALUE are only counted: its depth says where it ends. Every other octet is a step. */
#include "lib/json_cutter.h"

#include <string.h>

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

/* Members of the list; an object of the stream counts as one of items. */
enum member { OTHER, ITEMS = 1, METADATA = 2 };

void json_cutter_init(struct json_cutter *c, enum json_cutter_form form)
{
    *c = (struct json_cutter){.form = form};
    c->state = form == JSON_CUTTER_LIST ? START : BETWEEN;
    c->member = form == JSON_CUTTER_LIST ? OTHER : ITEMS;
    buf_init(&c->object, JSON_CUTTER_MAX);
    buf_init(&c->metadata, JSON_CUTTER_MAX);
}

void json_cutter_free(struct json_cutter *c)
{
    buf_wipe(&c->object); /* it may have been a Secret */
    buf_free(&c->metadata);
}

/* ---- between values ---- */

static bool is_space(char o)
{
    return o == ' ' || o == '\t' || o == '\n' || o == '\r';
}

/* Of numbers, true, false and null. */
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

/* A name with an escape in it is none of those that matter here. */
static enum state step_name(struct json_cutter *c, char o)
{
    if (o == '"' && !c->escaped) {
        c->member = word_is(c, "items") ? ITEMS : word_is(c, "metadata") ? METADATA : OTHER;
        bool again = c->seen & (unsigned)c->member;
        c->seen |= (unsigned)c->member;
        return again ? BAD : COLON;
    }
    c->escaped = o == '\\' && !c->escaped;
    add_to_word(c, o);
    return NAME;
}

/* A scalar needs what comes behind it to end. */
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

/* What names no items has not said that there are none. */
static enum state end_list(const struct json_cutter *c, char o)
{
    return c->seen & ITEMS ? expect(o, '}', END) : BAD;
}

/* The state after an octet that is in no value. */
static enum state step(struct json_cutter *c, char o)
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

/* ---- values ---- */

/* How many octets of `in` belong to the value. *ended: and with them it is complete. */
static size_t measure(struct json_cutter *c, struct str in, bool *ended)
{
    *ended = false;
    for (size_t i = 0; i < in.n; i++) {
        char o = in.p[i];
        if (c->in_string) {
            c->in_string = o != '"' || c->escaped;
            c->escaped = o == '\\' && !c->escaped;
            *ended = !c->in_string && c->depth == 0;
        } else if (o == '"') {
            c->in_string = true;
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

static enum state after_value(const struct json_cutter *c)
{
    return c->form == JSON_CUTTER_STREAM ? BETWEEN : c->member == ITEMS ? AFTER_ITEM : AFTER;
}

/* Takes what belongs to the value off *in. OK: *object has been cut out. AGAIN: go on. */
static int take_value(struct json_cutter *c, struct str *in, struct str *object, struct error *err)
{
    bool ended;
    struct str piece = {in->p, measure(c, *in, &ended)};
    struct buf *to = c->member == METADATA ? &c->metadata : &c->object;
    in->p += piece.n;
    in->n -= piece.n;
    if (ended) {
        c->state = after_value(c);
    }
    if (c->member == OTHER) {
        return AGAIN;
    }
    bool whole = ended && c->member == ITEMS;
    if (whole && buf_len(to) == 0 && piece.n <= JSON_CUTTER_MAX) {
        *object = piece; /* nothing to copy */
        return OK;
    }
    if (buf_add(to, piece.p, piece.n) == ERR) {
        c->state = BAD;
        return error_set(err, FAIL_LIMIT, "an object is larger than %d octets", JSON_CUTTER_MAX);
    }
    if (whole) {
        *object = buf_str(to);
    }
    return whole ? OK : AGAIN;
}

int json_cutter_next(struct json_cutter *c, struct str *in, struct str *object, struct error *err)
{
    int res = AGAIN;
    if (c->state != VALUE) {
        buf_wipe(&c->object); /* what was cut out last */
    }
    while (in->n && res == AGAIN) {
        if (c->state == VALUE) {
            res = take_value(c, in, object, err);
            continue;
        }
        bool in_scalar = c->state == SCALAR;
        c->state = step(c, in->p[0]);
        if (c->state == BAD) {
            return error_set(err, FAIL_PROTOCOL, "malformed JSON where %s should be",
                             c->form == JSON_CUTTER_LIST ? "a list" : "an object");
        }
        /* Not used up is the octet that begins a value, and the one that ends a scalar. */
        if (c->state != VALUE && !(in_scalar && c->state == AFTER)) {
            in->p++;
            in->n--;
        }
    }
    return res;
}

bool json_cutter_done(const struct json_cutter *c)
{
    return c->state == BETWEEN || c->state == END;
}

struct str json_cutter_metadata(const struct json_cutter *c)
{
    return buf_str(&c->metadata);
}

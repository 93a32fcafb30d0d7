/* Decides between endpoints that want the same: Services of one name, or one of the places for
 * targets of a namespace. A name stays with the endpoint that has it. A free name goes to the
 * oldest CR that can use it, and so does a place. The other endpoints are refused as long as that
 * lasts.
 *
 *   reconcile --> stance of the CR: NONE | UNKNOWN | WANTS
 *   what the endpoint can do with the name: HAS | CAN | CANNOT
 *                    |
 *                    v
 *   struct wanted_name: the contenders (UNKNOWN, WANTS) in order --> the first one is woken
 *                                                         --> the others a moment later
 *   struct places: placed, the youngest first <--> standing, the oldest first
 *
 * A CR's stance concerns others only when it changes who comes first, so the work for many CRs of
 * one name, or in one namespace, grows with their number and hardly faster. */
#include "controller/precedence.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "controller/queue.h"
#include "controller/resources.h"
#include "lib/mem.h"

/* While the first CR changes again and again, the endpoints that wait are woken no more often than
 * this. */
#define TELL_AGAIN SECONDS(1)

struct wanted_name {
    struct map_entry by_name;
    struct list endpoints; /* that want the name, or may want it again */
    size_t n;              /* number of these endpoints */
    struct heap contenders;
    struct endpoint *first; /* at the last change */
    enum rank others;       /* the rank of the others then */
    struct list changed;    /* on controller->names_changed */
    int64_t told_at;        /* when the others were woken last; 0: never */
    char name[];
};

/* The endpoints of one namespace that want one of its places. */
struct places {
    struct heap placed, standing;
    size_t n_placed;
    size_t n_unknown; /* number of placed endpoints that may not want their place after all */
};

/* ---- age ---- */

/* The older CR comes first, ties by namespace and name. */
static bool is_older(const struct resource *a, const struct resource *b)
{
    int order = strcmp(a->cr.created, b->cr.created);
    order = order ? order : strcmp(a->namespace, b->namespace);
    return order ? order < 0 : strcmp(a->name, b->name) < 0;
}

static bool comes_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct endpoint *x = container_of(a, const struct endpoint, contender);
    const struct endpoint *y = container_of(b, const struct endpoint, contender);
    return x->use != y->use ? x->use < y->use : is_older(x->resource, y->resource);
}

/* The endpoints of one CR come in the order of their names. */
static bool is_first(const struct endpoint *a, const struct endpoint *b)
{
    return a->resource == b->resource ? strcmp(a->service, b->service) < 0
                                      : is_older(a->resource, b->resource);
}

static bool stood_before(const struct heap_node *a, const struct heap_node *b)
{
    return is_first(container_of(a, const struct endpoint, place),
                    container_of(b, const struct endpoint, place));
}

static bool placed_after(const struct heap_node *a, const struct heap_node *b)
{
    return stood_before(b, a);
}

/* ---- names ---- */

static struct wanted_name *find_wanted_name(const struct controller *c, const char *name)
{
    struct map_entry *e = map_find(&c->wanted_names, name);
    return e ? container_of(e, struct wanted_name, by_name) : NULL;
}

static struct wanted_name *get_wanted_name(struct controller *c, const char *name)
{
    struct wanted_name *wanted = find_wanted_name(c, name);
    if (wanted) {
        return wanted;
    }
    size_t size = strlen(name) + 1;
    wanted = mem_zalloc(sizeof(*wanted) + size);
    memcpy(wanted->name, name, size);
    list_init(&wanted->endpoints);
    list_init(&wanted->changed);
    heap_init(&wanted->contenders, comes_before);
    map_add(&c->wanted_names, &wanted->by_name, wanted->name);
    return wanted;
}

static struct endpoint *first_of(const struct wanted_name *wanted)
{
    struct heap_node *node = heap_first(&wanted->contenders);
    return node ? container_of(node, struct endpoint, contender) : NULL;
}

struct endpoint *resource_endpoint(const struct resource *r, const char *service)
{
    struct wanted_name *wanted = find_wanted_name(r->controller, service);
    if (wanted && wanted->n < r->n_endpoints) {
        LIST_EACH (it, &wanted->endpoints) {
            struct endpoint *e = container_of(it, struct endpoint, same_name);
            if (e->resource == r) {
                return e;
            }
        }
    } else if (wanted) {
        LIST_EACH (it, &r->endpoints) {
            struct endpoint *e = container_of(it, struct endpoint, link);
            if (e->wanted == wanted) {
                return e;
            }
        }
    }
    return NULL;
}

/* ---- who hears of it ---- */

static void on_tell_timer(struct timer *timer);

static void tell_at(struct controller *c, int64_t due)
{
    if (!c->tell_names.due || due < c->tell_names.due) {
        timer_set(c->loop, &c->tell_names, due, on_tell_timer);
    }
}

static int64_t tell_due(const struct wanted_name *wanted)
{
    return wanted->told_at ? wanted->told_at + TELL_AGAIN : 0;
}

/* The first one has been woken already. */
static void tell_others(struct controller *c, struct wanted_name *wanted)
{
    wanted->told_at = loop_now(c->loop);
    list_remove(&wanted->changed);
    LIST_EACH (it, &wanted->endpoints) {
        const struct endpoint *e = container_of(it, struct endpoint, same_name);
        if (e->stance != STANCE_NONE && e != wanted->first) {
            resource_wake(e->resource);
        }
    }
}

static void on_tell_timer(struct timer *timer)
{
    struct controller *c = container_of(timer, struct controller, tell_names);
    timer->due = 0;
    LIST_EACH (it, &c->names_changed) {
        struct wanted_name *wanted = container_of(it, struct wanted_name, changed);
        if (tell_due(wanted) <= loop_now(c->loop)) {
            tell_others(c, wanted);
        } else {
            tell_at(c, tell_due(wanted));
        }
    }
}

/* Returns the rank of all others. A name that nobody can use keeps nobody waiting. */
static enum rank rank_behind(const struct endpoint *first)
{
    if (!first || first->use == USE_CANNOT) {
        return RANK_FIRST;
    }
    bool known = first->stance == STANCE_WANTS && !(first->use == USE_CAN && first->doubted);
    return known ? RANK_SECOND : RANK_UNKNOWN;
}

/* The stance of `by`, or what it can do with the name, has changed. */
static void note_first(struct wanted_name *wanted, const struct endpoint *by)
{
    struct controller *c = by->resource->controller;
    struct endpoint *first = first_of(wanted);
    enum rank others = rank_behind(first);
    if (c->stopped || (first == wanted->first && others == wanted->others)) {
        return;
    }
    wanted->first = first;
    wanted->others = others;
    if (first && first != by) {
        resource_wake(first->resource);
    }
    if (first && others != RANK_UNKNOWN && wanted->n > 1 && list_empty(&wanted->changed)) {
        list_append(&c->names_changed, &wanted->changed);
        tell_at(c, tell_due(wanted));
    }
}

void controller_wake_first(struct controller *c, const char *name)
{
    struct wanted_name *wanted = find_wanted_name(c, name);
    struct endpoint *first = wanted ? first_of(wanted) : NULL;
    if (first) {
        first->trouble_until = 0;
        resource_wake(first->resource);
    }
}

/* ---- who can use it ---- */

static size_t places_of(const struct endpoint *e)
{
    return e->resource->controller->settings.namespace_targets;
}

/* A destination that has not been read may be of use, and so may one that is read again after a
 * failure: when what several CRs lacked is back, the order of the answers decides nothing. A
 * listener stands for a Service that somebody has deleted and that is about to be written again,
 * unless somebody else's has taken its place: a controller that starts then could not know whose
 * the name was. */
static enum use use_of(const struct endpoint *e)
{
    bool is_of_use = !e->read || e->doubted || e->verdict == VERDICT_OK;
    if (endpoint_service(e) || (e->target && is_of_use && !e->name_taken)) {
        return USE_HAS;
    }
    return is_of_use && (e->placed || !places_of(e)) ? USE_CAN : USE_CANNOT;
}

void endpoint_update_use(struct endpoint *e)
{
    e->name_taken &= !endpoint_service(e);
    enum use use = use_of(e);
    if (e->stance == STANCE_NONE) {
        return;
    }
    if (e->use != use) {
        heap_remove(&e->wanted->contenders, &e->contender);
        e->use = use;
        heap_add(&e->wanted->contenders, &e->contender);
    }
    note_first(e->wanted, e);
}

void endpoint_lose_name(struct endpoint *e)
{
    e->name_taken = true;
    endpoint_update_use(e);
}

/* ---- places ---- */

static struct places *places_in(struct space *space)
{
    if (!space->places) {
        space->places = mem_zalloc(sizeof(*space->places));
        heap_init(&space->places->placed, placed_after);
        heap_init(&space->places->standing, stood_before);
    }
    return space->places;
}

static size_t unknown_in(const struct space *space)
{
    return space->places ? space->places->n_unknown : 0;
}

static struct endpoint *top_of(const struct heap *heap)
{
    struct heap_node *node = heap_first(heap);
    return node ? container_of(node, struct endpoint, place) : NULL;
}

static void place(struct places *places, struct endpoint *e)
{
    heap_add(&places->placed, &e->place);
    places->n_placed++;
    places->n_unknown += e->stance == STANCE_UNKNOWN;
    e->placed = true;
}

static void unplace(struct places *places, struct endpoint *e)
{
    heap_remove(&places->placed, &e->place);
    places->n_placed--;
    places->n_unknown -= e->stance == STANCE_UNKNOWN;
    e->placed = false;
}

/* The endpoint wants a place from now on. A younger one may have to give up its own. */
static void take_place(struct endpoint *e)
{
    struct places *places = places_in(e->resource->space);
    struct endpoint *youngest = top_of(&places->placed);
    if (places->n_placed == places_of(e) && is_first(e, youngest)) {
        unplace(places, youngest);
        heap_add(&places->standing, &youngest->place);
        endpoint_update_use(youngest);
        resource_wake(youngest->resource);
    }
    if (places->n_placed < places_of(e)) {
        place(places, e);
    } else {
        heap_add(&places->standing, &e->place);
    }
}

static void leave_place(struct endpoint *e)
{
    struct space *space = e->resource->space;
    struct places *places = space->places;
    struct endpoint *oldest = top_of(&places->standing);
    if (!e->placed) {
        heap_remove(&places->standing, &e->place);
        return;
    }
    unplace(places, e);
    if (oldest) {
        heap_remove(&places->standing, &oldest->place);
        place(places, oldest);
        endpoint_update_use(oldest);
        resource_wake(oldest->resource);
    } else if (!places->n_placed) {
        free(places);
        space->places = NULL;
    }
}

/* Every endpoint that has a place wants it. The others have waited to know that: wake them. */
static void tell_standing(struct space *space)
{
    LIST_EACH (it, &space->resources) {
        struct resource *r = container_of(it, struct resource, in_space);
        const struct endpoint *last = list_empty(&r->endpoints)
                                          ? NULL
                                          : container_of(r->endpoints.prev, struct endpoint, link);
        if (last && last->stance != STANCE_NONE && !last->placed) {
            resource_wake(r);
        }
    }
}

enum place_state endpoint_place(const struct endpoint *e)
{
    if (e->placed || !places_of(e)) {
        return PLACE_TAKEN;
    }
    return unknown_in(e->resource->space) ? PLACE_UNKNOWN : PLACE_NONE;
}

/* ---- stances ---- */

static void step_forward(struct endpoint *e)
{
    if (places_of(e)) {
        take_place(e);
    }
    e->use = use_of(e);
    heap_add(&e->wanted->contenders, &e->contender);
}

static void step_back(struct endpoint *e)
{
    heap_remove(&e->wanted->contenders, &e->contender);
    if (places_of(e)) {
        leave_place(e);
    }
}

static void set_stance(struct endpoint *e, enum stance stance)
{
    struct space *space = e->resource->space;
    enum stance before = e->stance;
    size_t unknown = unknown_in(space);
    if (before == stance) {
        return;
    }
    if (stance == STANCE_NONE) {
        step_back(e);
    } else if (e->placed) {
        space->places->n_unknown += stance == STANCE_UNKNOWN ? 1 : (size_t)-1;
    }
    e->stance = stance;
    if (before == STANCE_NONE) {
        step_forward(e);
    }
    if (unknown && !unknown_in(space) && space->places && heap_first(&space->places->standing)) {
        tell_standing(space);
    }
    note_first(e->wanted, e);
}

void resource_set_stance(struct resource *r, enum stance stance)
{
    LIST_EACH (it, &r->endpoints) {
        set_stance(container_of(it, struct endpoint, link), stance);
    }
}

void endpoint_want_name(struct endpoint *e, const char *name)
{
    struct wanted_name *wanted = get_wanted_name(e->resource->controller, name);
    e->wanted = wanted;
    e->service = wanted->name;
    list_append(&wanted->endpoints, &e->same_name);
    wanted->n++;
    set_stance(e, STANCE_UNKNOWN);
}

void endpoint_leave_name(struct endpoint *e)
{
    struct wanted_name *wanted = e->wanted;
    set_stance(e, STANCE_NONE);
    list_remove(&e->same_name);
    if (--wanted->n == 0) {
        list_remove(&wanted->changed);
        map_remove(&e->resource->controller->wanted_names, &wanted->by_name);
        free(wanted);
    }
}

enum rank endpoint_rank(const struct endpoint *e, const struct resource **other)
{
    const struct endpoint *first = first_of(e->wanted);
    assert(first);
    *other = first->resource;
    return first == e ? RANK_FIRST : rank_behind(first);
}

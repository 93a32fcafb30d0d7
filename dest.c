/* The Destination service. lib/cache does the waiting, sharing and refreshing; a fetch is a lookup
 * (dest/lookup.c):
 *
 *     find() --> is there a way to ask it? --> cache --> fetch() --> dest_lookup_start --.
 *                          |                     ^                                       |
 *                          v                     |                                       v
 *                      a refusal                 |<-- cache_fetched: a destination, or a refusal
 *                                                |                   that counts
 *                                                '<-- cache_failed: a failure that may pass; the
 *                                                                   known answer stays in use
 *
 * An answer counts when it is a destination or a refusal (it does not exist, cannot be used, ...).
 * Both are values of the cache, so that a refusal takes the place of the known destination.
 *
 * A client that brings a refresh token or a code causes two questions: for the destination alone,
 * which says what is to be shown to the service, then for the token. The token is kept as long as
 * it is valid; it belongs to the destination as that was.
 *
 * When the service of an instance fails again and again, its circuit is broken: fetch() fails by
 * itself, except for a trial lookup now and then, until one succeeds. Trouble of a single
 * destination breaks no circuit. A destination that has not failed lately is tried much sooner than
 * those that have, because the service may fail for a few destinations only, and their owners must
 * not keep others from theirs. While the circuit is broken, a question is answered with the refusal
 * or the lasting failure of its destination, if one is known, else with the broken circuit. */
#include "dest.h"

#include <stdlib.h>
#include <string.h>

#include "core/dest_source.h"
#include "core/service_key.h"
#include "core/token.h"
#include "dest/lookup.h"
#include "dest/request.h"
#include "http/origins.h"
#include "lib/cache.h"
#include "lib/digest.h"
#include "lib/list.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/metric.h"
#include "oauth/refresh_tokens.h"

/* The largest number of cached answers. 10,000 destinations are checked in rounds, and some
 * thousands of them are also in use, which takes a second answer. */
enum { ANSWERS_MAX = 16 * 1024 };

/* The largest size, in octets, of all that a reference says. */
enum { REF_KEY_MAX = 8 * 1024 };

/* How long a failure that may pass is remembered: at least, and at most. */
#define RETRY_MIN SECONDS(1)
#define RETRY_MAX SECONDS(30)

/* FAILURES_MAX failures of the service in a row, whatever it was asked for, break the circuit of
 * the instance. It stays broken for BREAK for the destinations that failed last, for BREAK_OTHERS
 * for all others. */
enum { FAILURES_MAX = 5, FAILED_LAST_MAX = 16 };
#define BREAK SECONDS(5)
#define BREAK_OTHERS MILLIS(250)

/* How long an answer serves: to log in (SPEC: 2 minutes), to check (many custom resources may share
 * one destination), and a refusal, which somebody may be about to put right. */
#define LOG_IN_FRESH SECONDS(100)
#define LOG_IN_VALID SECONDS(120)
#define CHECK_VALID SECONDS(10)
#define REFUSAL_VALID SECONDS(3)

/* How long a value serves while the service does not answer: longer than any outage. A refusal
 * serves for a shorter time, because its cause may have been repaired since. */
#define SPARE SECONDS((int64_t)7 * 24 * 60 * 60)
#define REFUSAL_SPARE SECONDS((int64_t)60 * 60)

struct dest {
    struct dest_lookups lookups;
    struct cache *cache;
    struct dest_source source;
    struct list instances;
    uint64_t generations;
    bool offline; /* no server is asked */
};

struct instance {
    struct list link;
    char *name;
    const struct service_key *key; /* NULL: there is a problem */
    char *problem;
    uint64_t generation; /* a new number for each new key */
    bool in_trouble;     /* the service fails; begin and end are logged */
    unsigned failures;   /* failures of the service in a row */
    int64_t ask_after;   /* the circuit is broken until then; 0: it is not broken */
    int64_t ask_others;  /* the same for destinations that are not among failed_last */
    uint64_t failed_last[FAILED_LAST_MAX]; /* a ring of their digests; 0: a free place */
    unsigned next_failed;                  /* index of the place that is filled next */
};

/* A question to the source. */
struct dest_request {
    struct dest *dest;
    struct dest_handler handler;
    struct cache_wait *wait;
    struct dest_result *refusal; /* instead of a wait, when the answer is known without one */
    struct task task;

    /* only for a client that brings a token */
    struct dest_ref ref;
    char *user; /* NULL: no such client */
    struct secret user_token;
    struct dest_result *config; /* NULL: not known yet */
    int64_t asked;              /* when the token was asked for */
    bool again;                 /* the token found was one of a changed destination; a new one is
                                   asked for */
};

/* A question to the cache. */
struct question {
    struct instance *instance;
    const struct dest_ref *ref;
    enum dest_kind kind;
    const struct dest_request *user; /* DEST_KIND_USER */
};

/* A fetch of the cache under way. */
struct fetch {
    struct dest *dest;
    struct cache_entry *entry;
    struct dest_lookup *lookup; /* NULL while the circuit is broken */
    struct task task;           /* reports the failure while the circuit is broken */
    bool trial;                 /* finds out whether a broken circuit can be closed */
    enum dest_kind kind;
    char *instance;
    uint64_t generation;
    char *key; /* of the entry */
    size_t key_n;
};

/* ---- keys of the cache ---- */

/* The size of a key up to the reference: the kind, the service key, and the client's user and token
 * (all zero: no client). Whatever may change the answer is part of the key. */
enum { KEY_HEAD = 1 + sizeof(uint64_t) + DIGEST_SHA256_SIZE };

struct answer_key {
    size_t n;
    char bytes[KEY_HEAD + REF_KEY_MAX];
};

static void digest_user(unsigned char digest[DIGEST_SHA256_SIZE], const struct dest_user *user)
{
    const struct str parts[] = {{user->name, strlen(user->name) + 1}, secret_str(user->secret)};
    digest_sha256(digest, parts, ARRAY_LEN(parts));
}

/* Makes the key of a question. `user` may be NULL: no client brings a token. ERR when the reference
 * does not fit. */
static int make_key(struct answer_key *key, enum dest_kind kind, const struct instance *instance,
                    const struct dest_ref *ref, const struct dest_user *user)
{
    unsigned char digest[DIGEST_SHA256_SIZE] = {0};
    struct buf out = BUF_ON(key->bytes);
    char first = (char)kind;
    if (user) {
        digest_user(digest, user);
    }
    bool fits = buf_add(&out, &first, 1) == OK &&
                buf_add(&out, &instance->generation, sizeof(instance->generation)) == OK &&
                buf_add(&out, digest, sizeof(digest)) == OK && dest_ref_key(&out, ref) == OK;
    key->n = buf_len(&out);
    return fits ? OK : ERR;
}

static struct str key_str(const struct answer_key *key)
{
    return (struct str){key->bytes, key->n};
}

static struct str key_of(const struct fetch *f)
{
    return (struct str){f->key, f->key_n};
}

/* ---- instances ---- */

static struct instance *find_instance(const struct dest *dest, const char *name)
{
    LIST_EACH (it, &dest->instances) {
        struct instance *i = container_of(it, struct instance, link);
        if (strcmp(i->name, name) == 0) {
            return i;
        }
    }
    return NULL;
}

static void instance_free(struct instance *i)
{
    list_remove(&i->link);
    service_key_unref(i->key);
    free(i->problem);
    free(i->name);
    free(i);
}

void dest_set_instance(struct dest *dest, const char *name, const struct service_key *key,
                       const char *problem)
{
    struct instance *i = find_instance(dest, name);
    if (i && i->key && key && service_key_equal(i->key, key)) {
        return;
    }
    if (i) {
        instance_free(i);
    }
    if (key || problem) {
        i = mem_zalloc(sizeof(*i));
        i->name = mem_strdup(name);
        i->key = key ? service_key_ref(key) : NULL;
        i->problem = key ? NULL : mem_strdup(problem);
        i->generation = ++dest->generations;
        list_init(&i->link);
        list_append(&dest->instances, &i->link);
    }
}

/* Returns a digest, never 0, of the reference in a key of the cache. */
static uint64_t digest_of(struct str key)
{
    unsigned char digest[DIGEST_SHA256_SIZE];
    const struct str ref = {key.p + KEY_HEAD, key.n - KEY_HEAD};
    uint64_t first;
    digest_sha256(digest, &ref, 1);
    memcpy(&first, digest, sizeof(first));
    return first | 1;
}

static bool failed_lately(const struct instance *i, struct str key)
{
    uint64_t digest = digest_of(key);
    for (size_t n = 0; n < FAILED_LAST_MAX; n++) {
        if (i->failed_last[n] == digest) {
            return true;
        }
    }
    return false;
}

/* Counts a failure of the service. `pause` is how long the service says that it is too busy
 * (microseconds, else 0); it holds for all destinations. */
static void count_failure(const struct fetch *f, struct instance *i, int64_t pause)
{
    int64_t now = loop_now(f->dest->lookups.loop);
    i->failures++;
    if (!failed_lately(i, key_of(f))) {
        i->failed_last[i->next_failed++ % FAILED_LAST_MAX] = digest_of(key_of(f));
    }
    if (pause || i->failures >= FAILURES_MAX) {
        i->ask_after = now + (pause < BREAK && i->failures >= FAILURES_MAX ? BREAK : pause);
        i->ask_others = now + (pause ? pause : BREAK_OTHERS);
    }
}

/* Makes the next lookup a trial, too, because this trial has learned nothing about the service. */
static void pass_turn_on(const struct fetch *f, struct instance *i)
{
    if (f->trial) {
        i->ask_after = i->ask_others = loop_now(f->dest->lookups.loop);
    }
}

/* Counts failures of the service. A failure that will not pass by itself, or an answer that is too
 * large, is not counted: a single destination may cause it. */
static void note_failure(const struct fetch *f, struct instance *i,
                         const struct dest_lookup_end *end)
{
    if (!i->in_trouble) { /* log once, not for each destination */
        log_line(LOG_WARN, "dest", "%s; what is known of its destinations stays in use",
                 end->err.text);
    }
    i->in_trouble = true;
    if (fail_may_pass(end->err.fail) && end->err.fail != FAIL_LIMIT) {
        count_failure(f, i, end->retry_after);
    } else {
        pass_turn_on(f, i);
    }
}

static void note_service(const struct fetch *f, const struct dest_lookup_end *end)
{
    struct instance *i = find_instance(f->dest, f->instance);
    if (!i || i->generation != f->generation) {
        return;
    }
    switch (end->service) {
    case DEST_SERVICE_UNKNOWN:
        pass_turn_on(f, i);
        break;
    case DEST_SERVICE_FAILS:
        note_failure(f, i, end);
        break;
    case DEST_SERVICE_SERVES:
        if (i->in_trouble) {
            log_line(LOG_INFO, "dest", "Destination service instance \"%s\" serves again", i->name);
        }
        i->in_trouble = false;
        i->failures = 0;
        i->ask_after = i->ask_others = 0;
        memset(i->failed_last, 0, sizeof(i->failed_last));
        break;
    }
}

/* Tells whether the service may be asked now. While the circuit is broken, the first lookup after a
 * pause is a trial, whose result counts for all. One trial of a destination that failed last and
 * one of another destination run at a time, so that a slow failure of the one does not hold up the
 * other. */
static bool take_turn(struct fetch *f, struct instance *i)
{
    const struct dest_lookups *lookups = &f->dest->lookups;
    int64_t now = loop_now(lookups->loop);
    f->trial = i->ask_after != 0;
    if (!f->trial) {
        return true;
    }
    int64_t *ask = failed_lately(i, key_of(f)) ? &i->ask_after : &i->ask_others;
    if (now < *ask) {
        return false;
    }
    *ask = now + lookups->connect_timeout + lookups->answer_timeout;
    return true;
}

/* ---- fetching ---- */

static void fetch_free(struct fetch *f)
{
    dest_lookup_cancel(f->lookup);
    task_cancel(&f->task);
    free(f->instance);
    free(f->key);
    free(f);
}

static void abandon(void *job, void *arg)
{
    (void)arg;
    fetch_free(job);
}

static struct cache_life life_of(const struct fetch *f, const struct dest_result *result)
{
    struct cache_life life = {LOG_IN_FRESH, LOG_IN_VALID, SPARE};
    if (!result->dest) {
        /* Each client sends something else, so a long-lived entry for each would fill the cache. */
        int64_t spare = f->kind == DEST_KIND_USER ? REFUSAL_VALID : REFUSAL_SPARE;
        return (struct cache_life){REFUSAL_VALID, REFUSAL_VALID, spare};
    }
    if (f->kind == DEST_KIND_CHECK) {
        return (struct cache_life){CHECK_VALID, CHECK_VALID, SPARE};
    }
    if (result->token) {
        int64_t left = result->token->expires - TOKEN_MARGIN - loop_now(f->dest->lookups.loop);
        if (f->kind == DEST_KIND_USER) {
            /* a code cannot be redeemed a second time, so its token is not refreshed */
            bool renewable = result->dest->auth == AUTH_REFRESH_TOKEN;
            return (struct cache_life){renewable ? left / 6 * 5 : left, left, left};
        }
        life.spare = left;
        life.valid = left < LOG_IN_VALID ? left : LOG_IN_VALID;
        life.fresh = life.valid / 6 * 5;
    }
    return life;
}

static bool same(const struct dest_result *a, const struct dest_result *b)
{
    if (!a->dest || !b->dest) {
        return a->dest == b->dest && a->verdict == b->verdict;
    }
    return destination_equal(a->dest, b->dest);
}

/* Drops the answers cached for sessions if a check has found a changed destination. */
static void forget_old(struct fetch *f, const struct dest_result *news)
{
    static const enum dest_kind kinds[] = {DEST_KIND_LOG_IN, DEST_KIND_CONFIG};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        f->key[0] = (char)kinds[i];
        const struct str key = {f->key, f->key_n};
        const struct dest_result *old = cache_peek(f->dest->cache, key);
        if (old && !same(old, news)) {
            cache_drop(f->dest->cache, key, old);
        }
    }
}

static void on_looked_up(const struct dest_lookup_end *end, void *arg)
{
    struct fetch *f = arg;
    struct cache_entry *entry = f->entry;
    f->lookup = NULL;
    note_service(f, end);
    if (!end->result) {
        fetch_free(f);
        cache_failed(entry, &end->err, end->retry_after);
        return;
    }
    struct cache_life life = life_of(f, end->result);
    if (f->kind == DEST_KIND_CHECK) {
        forget_old(f, end->result);
    }
    fetch_free(f);
    cache_fetched(entry, end->result, life);
}

/* Returns the last failure if it will not pass by itself; else NULL. */
static const struct error *lasting_failure(const struct fetch *f)
{
    const struct error *err = cache_failure(f->dest->cache, key_of(f));
    return err && !fail_may_pass(err->fail) ? err : NULL;
}

/* Turns the key into that of a check of the same destination, for which no client sends a token. */
static void turn_into_check(struct fetch *f)
{
    f->key[0] = (char)DEST_KIND_CHECK;
    memset(f->key + KEY_HEAD - DIGEST_SHA256_SIZE, 0, DIGEST_SHA256_SIZE);
}

/* Returns the last failure of this question, or else of a check, if it will not pass by itself;
 * stores the refusal that a check has found in *refusal (a new reference). When this question has a
 * value the check is ignored, because it may be older. */
static const struct error *what_lasts(struct fetch *f, struct dest_result **refusal)
{
    const struct error *err = lasting_failure(f);
    if (err || cache_peek(f->dest->cache, key_of(f))) {
        return err;
    }
    turn_into_check(f);
    struct dest_result *checked = cache_peek(f->dest->cache, key_of(f));
    if (checked && !checked->dest) {
        *refusal = dest_result_ref(checked);
    }
    return lasting_failure(f);
}

static void on_not_asked(struct task *t)
{
    struct fetch *f = container_of(t, struct fetch, task);
    struct cache_entry *entry = f->entry;
    struct dest_result *refusal = NULL;
    const struct error *lasting = what_lasts(f, &refusal);
    struct error err;
    if (lasting) {
        err = *lasting;
    } else if (f->dest->offline) {
        error_set(&err, FAIL_REMOTE, "Destination service instance \"%.100s\" is not asked",
                  f->instance);
    } else {
        error_set(&err, FAIL_REMOTE,
                  "Destination service instance \"%.100s\" has failed again and again, or is too "
                  "busy; it is asked again within seconds",
                  f->instance);
    }
    fetch_free(f);
    if (refusal) {
        cache_fetched(entry, refusal, (struct cache_life){REFUSAL_VALID, REFUSAL_VALID, 0});
    } else {
        cache_failed(entry, &err, 0);
    }
}

static void *fetch(struct cache_entry *entry, struct str key, const void *request, void *arg)
{
    const struct question *question = request;
    struct instance *instance = question->instance;
    struct dest_wanted wanted = {
        .instance = instance->name,
        .key = instance->key,
        .ref = question->ref,
        .ref_key = {key.p + KEY_HEAD, key.n - KEY_HEAD},
        .kind = question->kind,
    };
    if (wanted.kind == DEST_KIND_USER) {
        wanted.config = question->user->config->dest;
        wanted.user_token = &question->user->user_token;
    }
    struct fetch *f = mem_zalloc(sizeof(*f));
    *f = (struct fetch){
        .dest = arg,
        .entry = entry,
        .kind = question->kind,
        .instance = mem_strdup(instance->name),
        .generation = instance->generation,
        .key = mem_alloc(key.n),
        .key_n = key.n,
    };
    memcpy(f->key, key.p, key.n);
    task_init(&f->task);
    if (!f->dest->offline && take_turn(f, instance)) {
        f->lookup = dest_lookup_start(&f->dest->lookups, &wanted,
                                      (struct dest_lookup_handler){on_looked_up, f});
    } else {
        loop_soon(f->dest->lookups.loop, &f->task, on_not_asked);
    }
    return f;
}

static void *ref_result(void *value)
{
    return dest_result_ref(value);
}

static void unref_result(void *value)
{
    dest_result_unref(value);
}

/* ---- as a source of destinations ---- */

static void request_free(struct dest_request *request)
{
    cache_cancel(request->wait);
    task_cancel(&request->task);
    dest_result_unref(request->refusal);
    dest_result_unref(request->config);
    if (request->user) {
        dest_ref_clear(&request->ref);
        free(request->user);
        secret_clear(&request->user_token);
    }
    free(request);
}

static void tell(struct dest_request *request, const struct dest_answer *answer)
{
    struct dest_handler handler = request->handler;
    request_free(request);
    handler.done(answer, handler.arg);
}

static void tell_found(struct dest_request *request, const struct dest_result *found)
{
    struct dest_answer answer = {
        .dest = found->dest,
        .token = found->token,
        .received = found->received,
        .verdict = found->verdict,
    };
    if (found->refusal) {
        error_set(&answer.err, FAIL_CONFIG, "%s", found->refusal);
    }
    tell(request, &answer);
}

static bool takes_user(const struct destination *dest)
{
    return dest && (dest->auth == AUTH_REFRESH_TOKEN || dest->auth == AUTH_AUTHORIZATION_CODE);
}

static void ask_for_user(struct dest_request *request);
static bool is_outdated(const struct dest_request *request, const struct dest_result *found);
static void forget(struct dest *dest, const struct dest_ref *ref, const struct dest_user *user,
                   const struct dest_result *found, const struct token *token);

static void on_cached(void *value, const struct error *err, void *arg)
{
    struct dest_request *request = arg;
    struct dest_result *found = value;
    request->wait = NULL;
    if (found && request->user && !request->config && takes_user(found->dest)) {
        request->config = dest_result_ref(found);
        ask_for_user(request);
    } else if (found && is_outdated(request, found)) {
        request->again = true;
        ask_for_user(request);
    } else if (found) {
        tell_found(request, found);
    } else {
        struct dest_answer answer = {.verdict = VERDICT_UNREADABLE, .err = *err};
        tell(request, &answer);
    }
}

static void on_refused(struct task *t)
{
    struct dest_request *request = container_of(t, struct dest_request, task);
    struct dest_result *refusal = request->refusal;
    request->refusal = NULL;
    tell_found(request, refusal);
    dest_result_unref(refusal);
}

static struct dest_result *no_instance(const char *name)
{
    char shown[120], words[FAIL_TEXT_MAX];
    if (!name) {
        return dest_refusal(VERDICT_INSTANCE_NOT_CONFIGURED,
                            "Destination service instance name should be provided: there is no "
                            "default instance");
    }
    text_printable(shown, sizeof(shown), str_of(name));
    text_fmt(words, sizeof(words), "Destination service instance \"%s\" is not configured%s", shown,
             strstr(name, "//") ? "; YAML has no comments with \"//\": the text is part of the "
                                  "name"
                                : "");
    return dest_refusal(VERDICT_INSTANCE_NOT_CONFIGURED, words);
}

/* Returns the instance that can be asked for this; or NULL and a refusal in *refusal. */
static struct instance *instance_for(const struct dest *dest, const struct dest_ref *ref,
                                     struct dest_result **refusal)
{
    struct instance *instance = ref->instance ? find_instance(dest, ref->instance) : NULL;
    enum verdict verdict;
    struct error err;
    if (!instance) {
        *refusal = no_instance(ref->instance);
    } else if (!instance->key) {
        *refusal = dest_refusal(VERDICT_INSTANCE_NOT_CONFIGURED, instance->problem);
    } else if (dest_request_check(ref, instance->name, instance->key, &verdict, &err) == ERR) {
        *refusal = dest_refusal(verdict, err.text);
    } else {
        return instance;
    }
    return NULL;
}

static void ask(struct dest_request *request, const struct dest_ref *ref, enum dest_kind kind)
{
    struct dest *dest = request->dest;
    struct answer_key key;
    const struct dest_user user = {request->user, &request->user_token};
    const struct dest_user *who = kind == DEST_KIND_USER ? &user : NULL;
    struct instance *instance = instance_for(dest, ref, &request->refusal);
    int rc = instance ? make_key(&key, kind, instance, ref, who) : ERR;
    if (instance && rc == ERR) {
        request->refusal =
            dest_refusal(VERDICT_CONFIGURATION_FAILED,
                         "spec.fragmentRef and spec.chainRef are too long: the whole "
                         "reference to the destination must fit into 8 KiB");
    }
    if (rc == ERR) {
        loop_soon(dest->lookups.loop, &request->task, on_refused);
        return;
    }
    const struct question question = {instance, ref, kind, request};
    request->wait = cache_get(dest->cache, key_str(&key), &question,
                              (struct cache_handler){on_cached, request});
}

static void ask_for_user(struct dest_request *request)
{
    request->asked = loop_now(request->dest->lookups.loop);
    ask(request, &request->ref, DEST_KIND_USER);
}

/* Tells whether this is the token of a destination that has changed since. Such a token is
 * forgotten. */
static bool is_outdated(const struct dest_request *request, const struct dest_result *found)
{
    if (!request->user || !request->config || request->again || !found->dest ||
        found->received >= request->asked ||
        destination_equal(found->dest, request->config->dest)) {
        return false;
    }
    const struct dest_user user = {request->user, &request->user_token};
    forget(request->dest, &request->ref, &user, found, NULL);
    return true;
}

static struct dest_request *find(struct dest_source *source, const struct dest_ref *ref,
                                 enum dest_purpose purpose, const struct dest_user *user,
                                 struct dest_handler handler)
{
    struct dest_request *request = mem_zalloc(sizeof(*request));
    request->dest = container_of(source, struct dest, source);
    request->handler = handler;
    task_init(&request->task);
    if (purpose == DEST_TO_CHECK) {
        ask(request, ref, DEST_KIND_CHECK);
    } else if (user) {
        request->ref = dest_ref_copy(ref);
        request->user = mem_strdup(user->name);
        secret_set(&request->user_token, user->secret->p, user->secret->n);
        ask(request, ref, DEST_KIND_CONFIG);
    } else {
        ask(request, ref, DEST_KIND_LOG_IN);
    }
    return request;
}

static void cancel(struct dest_source *source, struct dest_request *request)
{
    (void)source;
    if (request) {
        request_free(request);
    }
}

/* Drops the known answer for this user (NULL: for no user) if it is `found`, or if its token is
 * `token`. */
static void forget(struct dest *dest, const struct dest_ref *ref, const struct dest_user *user,
                   const struct dest_result *found, const struct token *token)
{
    const struct instance *instance = ref->instance ? find_instance(dest, ref->instance) : NULL;
    enum dest_kind kind = user ? DEST_KIND_USER : DEST_KIND_LOG_IN;
    struct answer_key key;
    if (!instance || !instance->key || make_key(&key, kind, instance, ref, user) == ERR) {
        return;
    }
    const struct dest_result *known = cache_peek(dest->cache, key_str(&key));
    if (!known || (known != found && (!token || known->token != token))) {
        return;
    }
    if (token) {
        dest_lookup_refused(&dest->lookups, instance->key, ref, known->dest, token);
    }
    cache_drop(dest->cache, key_str(&key), known);
}

/* Forgets the token, so that the next question gets another one. Does nothing when it has been
 * forgotten already. */
static void token_refused(struct dest_source *source, const struct dest_ref *ref,
                          const struct dest_user *user, const struct token *token)
{
    forget(container_of(source, struct dest, source), ref, user, NULL, token);
}

void dest_stay_offline(struct dest *dest)
{
    dest->offline = true;
}

struct dest_source *dest_service(struct dest *dest)
{
    return &dest->source;
}

/* ---- life ---- */

struct dest *dest_new(struct loop *loop, struct dns *dns, struct oauth *oauth,
                      struct connectivity *connectivity, struct tls_roots *roots,
                      bool allow_loopback)
{
    struct dest *dest = mem_zalloc(sizeof(*dest));
    const struct cache_settings settings = {
        .max_entries = ANSWERS_MAX,
        .retry_min = RETRY_MIN,
        .retry_max = RETRY_MAX,
        .fetch = fetch,
        .abandon = abandon,
        .ref = ref_result,
        .unref = unref_result,
        .arg = dest,
    };
    dest->lookups = (struct dest_lookups){
        .loop = loop,
        .oauth = oauth,
        .connectivity = connectivity,
        .origins = http_origins_new(loop, dns, roots),
        .refresh_tokens = oauth_refresh_tokens_new(),
        .allow_loopback = allow_loopback,
    };
    dest_trust_stores_init(&dest->lookups.trust_stores);
    dest->cache = cache_new(loop, &settings);
    dest->source = (struct dest_source){.find = find, .cancel = cancel, .refused = token_refused};
    list_init(&dest->instances);
    dest_set_timeouts(dest, SECONDS(5), SECONDS(10));
    return dest;
}

void dest_free(struct dest *dest)
{
    if (dest) {
        cache_free(dest->cache);
        oauth_refresh_tokens_free(dest->lookups.refresh_tokens);
        token_refusals_clear(&dest->lookups.refusals);
        dest_trust_stores_close(&dest->lookups.trust_stores);
        http_origins_free(dest->lookups.origins);
        LIST_EACH (it, &dest->instances) {
            instance_free(container_of(it, struct instance, link));
        }
        free(dest);
    }
}

void dest_set_roots(struct dest *dest, struct tls_roots *roots)
{
    http_origins_set_roots(dest->lookups.origins, roots);
}

void dest_set_timeouts(struct dest *dest, int64_t connect, int64_t answer)
{
    dest->lookups.connect_timeout = connect;
    dest->lookups.answer_timeout = answer;
}

void dest_metrics(const struct dest *dest, struct buf *out)
{
    struct cache_stats stats = cache_stats(dest->cache);
    metric_results(out, "tproxy_destination_service_requests_total",
                   "Requests to the Destination service by result.", dest->lookups.results);
    metric_head(out, "tproxy_destination_service_request_seconds", METRIC_HISTOGRAM,
                "Time of a request to the Destination service.");
    metric_histogram(out, "tproxy_destination_service_request_seconds", NULL,
                     &dest->lookups.latency);
    metric_head(
        out, "tproxy_destination_cache_total", METRIC_COUNTER,
        "Questions for destinations that were answered from memory (hits), or had to wait.");
    metric_count(out, "tproxy_destination_cache_total",
                 (struct metric_label[]){{"result", "hits"}, {0}}, stats.hits);
    metric_count(out, "tproxy_destination_cache_total",
                 (struct metric_label[]){{"result", "misses"}, {0}}, stats.misses);
}

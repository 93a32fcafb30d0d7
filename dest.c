/* The Destination service. lib/cache does the waiting, sharing and refreshing; a fetch is a lookup:
 *
 *     find() --> cache --> fetch() --> TOKEN: oauth_get --> ASK: GET .../destinations/<name> --.
 *                  ^                     ^                              |                      |
 *                  |                     '-- 401, the first time -------'                      |
 *                  |                         the access token is renewed                       |
 *                  |                                                                           |
 *                  |             OWN: mail_token_get, when the service has no token for it  <--|
 *                  |                                     |                                     |
 *                  |<-- cache_fetched: a destination, or a refusal that counts ----------------|
 *                  '<-- cache_failed: what may pass; what is known stays in use ---------------'
 *
 * A question for somebody who brings a refresh token or a code is two: for the destination alone,
 * which says what is to be shown to the service, then for the token. The token is kept as long as
 * it is valid; it belongs to the destination as that was.
 *
 * A refusal that counts (the destination is not there, cannot be used, ...) is a value like a
 * destination, so that it takes the place of what was known before. */
#include "dest.h"

#include <assert.h>
#include <stdlib.h>

#include "core/dest_answer.h"
#include "core/http_proto.h"
#include "core/service_key.h"
#include "core/token.h"
#include "dest_source.h"
#include "http.h"
#include "http_origins.h"
#include "lib/cache.h"
#include "lib/digest.h"
#include "lib/list.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/metric.h"
#include "mail_token.h"
#include "oauth.h"
#include "rotations.h"

/* Of 10,000 destinations that are checked in rounds some thousands are in use. */
enum { ANSWERS_MAX = 16 * 1024 };

/* How long a failure is remembered that may pass. */
#define RETRY_MIN SECONDS(1)
#define RETRY_MAX SECONDS(30)

/* How long an answer serves: to log in (SPEC: 2 minutes), to check (many custom resources may share
 * one destination), and a refusal, which somebody may be about to put right. */
#define LOG_IN_FRESH SECONDS(100)
#define LOG_IN_VALID SECONDS(120)
#define CHECK_VALID SECONDS(10)
#define REFUSAL_VALID SECONDS(3)

/* And how long while the service does not answer: longer than any outage. */
#define SPARE SECONDS((int64_t)7 * 24 * 60 * 60)

/* A token for the mail server is not handed out any more so long before its expiry: it still has to
 * travel. TOKEN_LIFETIME is that of one whose lifetime is not said. */
#define TOKEN_MARGIN SECONDS(10)
#define TOKEN_LIFETIME SECONDS(120)

#define FIND_PATH "/destination-configuration/v1/destinations/"

/* Octets of a name in the path, percent-encoded; of the path; of the headers. */
enum {
    SEGMENT_MAX = 3 * DESTINATION_NAME_MAX,
    TARGET_MAX = 4096,
    HEADERS_MAX = TOKEN_MAX + 24 * 1024,
    REF_KEY_MAX = 64 * 1024,
};

/* Kinds of answers that the cache holds. */
enum kind {
    KIND_CHECK,  /* the destination alone: for DEST_TO_CHECK, */
    KIND_CONFIG, /* and for those who bring a token */
    KIND_LOG_IN, /* with the token, if it needs none of a client */
    KIND_USER,   /* with the token for what a client has sent */
};

struct dest {
    struct loop *loop;
    struct oauth *oauth;
    struct http_origins *origins;
    struct cache *cache;
    struct rotations *rotations;
    struct dest_source source;
    bool allow_loopback;
    int64_t connect_timeout, answer_timeout;
    struct list instances;
    uint64_t generations;
    uint64_t results[FAIL_COUNT];
    struct metric_histogram latency;
};

struct instance {
    struct list link;
    char *name;
    const struct service_key *key; /* NULL: there is a problem */
    char *problem;
    uint64_t generation; /* another one for each new key */
    bool troubled;       /* it is not served now */
};

/* A question to the source. */
struct dest_request {
    struct dest_handler handler;
    struct cache_wait *wait;
    struct found *refusal; /* instead of a wait: nobody needs to be asked */
    struct task task;

    /* For a user token. */
    struct dest *dest;
    struct dest_ref ref;
    char *user; /* NULL: for none */
    struct secret user_token;
    struct found *config; /* NULL: not known yet */
    int64_t asked;        /* for the token */
    bool again;           /* what was known was a token of another destination */
};

/* What the cache is asked. */
struct question {
    const struct instance *instance;
    struct str segment; /* the name as it stands in the path */
    enum kind kind;
    const struct dest_request *user; /* KIND_USER */
};

/* What the cache holds: an answer of the service. */
struct found {
    unsigned refs;
    const struct destination *dest; /* NULL: refused */
    struct token *token;
    int64_t received;
    enum verdict verdict;
    char *refusal; /* FAIL_CONFIG, in words */
};

struct lookup {
    struct dest *dest;
    struct cache_entry *entry;
    struct oauth_wait *wait; /* TOKEN */
    struct http_call *call;  /* ASK */
    struct http_origin *origin;
    struct token *token; /* which was shown to the service */
    bool renewed;
    int64_t asked;

    const struct service_key *key;
    uint64_t generation;
    enum kind kind;
    char *instance;
    char *segment;

    /* KIND_USER */
    const struct destination *config;
    struct secret user_token;                  /* that is sent */
    unsigned char sent_by[DIGEST_SHA256_SIZE]; /* where what the client sent counts */

    struct oauth_wait *own;        /* OWN */
    const struct destination *its; /* which it is for */
    struct error why;              /* the service has none */
};

static void ask_token(struct lookup *l);

/* ---- answers of the service ---- */

static void *ref_found(void *value)
{
    struct found *found = value;
    found->refs++;
    return found;
}

static void unref_found(void *value)
{
    struct found *found = value;
    if (--found->refs == 0) {
        destination_unref(found->dest);
        token_unref(found->token);
        free(found->refusal);
        free(found);
    }
}

static struct found *refusal_new(enum verdict verdict, const char *words)
{
    struct found *found = mem_zalloc(sizeof(*found));
    *found = (struct found){.refs = 1, .verdict = verdict, .refusal = mem_strdup(words)};
    return found;
}

static bool same(const struct found *a, const struct found *b)
{
    if (!a->dest || !b->dest) {
        return a->dest == b->dest && a->verdict == b->verdict;
    }
    return destination_equal(a->dest, b->dest);
}

/* ---- keys of the cache ---- */

/* Who brings what, as a digest; zero: nobody. */
struct user_digest {
    unsigned char bytes[DIGEST_SHA256_SIZE];
};

struct answer_key {
    size_t n;
    char bytes[1 + sizeof(uint64_t) + sizeof(struct user_digest) + SEGMENT_MAX];
};

static struct user_digest digest_of(const char *user, const struct secret *token)
{
    struct user_digest digest;
    const struct str parts[] = {{user, strlen(user) + 1}, {token->p, token->n}};
    digest_sha256(digest.bytes, parts, ARRAY_LEN(parts));
    return digest;
}

static struct answer_key user_key(enum kind kind, uint64_t generation, struct str segment,
                                  struct user_digest user)
{
    struct answer_key key = {.n = 1};
    assert(segment.n <= SEGMENT_MAX);
    key.bytes[0] = (char)kind;
    memcpy(key.bytes + key.n, &generation, sizeof(generation));
    key.n += sizeof(generation);
    memcpy(key.bytes + key.n, user.bytes, sizeof(user.bytes));
    key.n += sizeof(user.bytes);
    memcpy(key.bytes + key.n, segment.p, segment.n);
    key.n += segment.n;
    return key;
}

static struct answer_key key_of(enum kind kind, uint64_t generation, struct str segment)
{
    return user_key(kind, generation, segment, (struct user_digest){0});
}

static struct str key_str(const struct answer_key *key)
{
    return (struct str){key->bytes, key->n};
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

/* Says when the service ceases to serve an instance, and when it serves again: not for each
 * destination. */
static void note_trouble(const struct lookup *l, const struct error *err)
{
    struct instance *i = find_instance(l->dest, l->instance);
    if (!i || i->generation != l->generation || i->troubled == (err != NULL)) {
        return;
    }
    i->troubled = err != NULL;
    if (err) {
        log_line(LOG_WARN, "dest", "%s; what is known of its destinations stays in use", err->text);
    } else {
        log_line(LOG_INFO, "dest", "Destination service instance \"%s\" serves again", i->name);
    }
}

/* ---- the end of a lookup ---- */

static void lookup_free(struct lookup *l)
{
    oauth_cancel(l->wait);
    oauth_cancel(l->own);
    http_cancel(l->call);
    http_origin_release(l->origin);
    token_unref(l->token);
    service_key_unref(l->key);
    free(l->instance);
    free(l->segment);
    destination_unref(l->config);
    destination_unref(l->its);
    secret_clear(&l->user_token);
    free(l);
}

static void abandon(void *job, void *arg)
{
    (void)arg;
    lookup_free(job);
}

static struct cache_life life_of(const struct lookup *l, const struct found *found)
{
    struct cache_life life = {LOG_IN_FRESH, LOG_IN_VALID, SPARE};
    if (!found->dest) {
        return (struct cache_life){REFUSAL_VALID, REFUSAL_VALID, REFUSAL_VALID};
    }
    if (l->kind == KIND_CHECK) {
        return (struct cache_life){CHECK_VALID, CHECK_VALID, SPARE};
    }
    if (found->token) {
        int64_t left = found->token->expires - TOKEN_MARGIN - loop_now(l->dest->loop);
        if (l->kind == KIND_USER) {
            /* A code would be redeemed a second time. */
            bool renewable = found->dest->auth == AUTH_REFRESH_TOKEN;
            return (struct cache_life){renewable ? left / 6 * 5 : left, left, left};
        }
        life.spare = left;
        life.valid = left < LOG_IN_VALID ? left : LOG_IN_VALID;
        life.fresh = life.valid / 6 * 5;
    }
    return life;
}

/* What a check has found out holds for sessions too, at once. */
static void forget_old(const struct lookup *l, const struct found *news)
{
    static const enum kind kinds[] = {KIND_LOG_IN, KIND_CONFIG};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct answer_key key = key_of(kinds[i], l->generation, str_of(l->segment));
        const struct found *old = cache_peek(l->dest->cache, key_str(&key));
        if (old && !same(old, news)) {
            cache_drop(l->dest->cache, key_str(&key), old);
        }
    }
}

/* An answer that counts. The reference is the cache's. */
static void answered(struct lookup *l, struct found *found)
{
    struct cache_entry *entry = l->entry;
    struct cache_life life = life_of(l, found);
    log_line(LOG_DEBUG, "dest", "destination %s of instance \"%s\": %s", l->segment, l->instance,
             found->dest ? "found" : found->refusal);
    found->received = loop_now(l->dest->loop);
    if (l->kind == KIND_CHECK) {
        forget_old(l, found);
    }
    lookup_free(l);
    cache_fetched(entry, found, life);
}

/* What may pass. */
static void failed(struct lookup *l, const struct error *err, int64_t retry_after)
{
    struct cache_entry *entry = l->entry;
    log_line(LOG_DEBUG, "dest", "destination %s of instance \"%s\": %s", l->segment, l->instance,
             err->text);
    lookup_free(l);
    cache_failed(entry, err, retry_after);
}

/* The service, or the authorization server before it, could not be asked. */
static void not_asked(struct lookup *l, const struct error *err)
{
    struct error why;
    if (err->fail == FAIL_AUTH || err->fail == FAIL_CONFIG) {
        error_set(&why, err->fail,
                  "the service key of Destination service instance \"%.100s\" does not work: %s",
                  l->instance, err->text);
        answered(l, refusal_new(VERDICT_INSTANCE_NOT_CONFIGURED, why.text));
        return;
    }
    /* Who cannot prove to be the service has not said anything about a destination. */
    error_set(&why, err->fail == FAIL_CERT ? FAIL_TLS : err->fail,
              "Destination service instance \"%.100s\": %s", l->instance, err->text);
    note_trouble(l, &why);
    failed(l, &why, 0);
}

/* ---- a lookup ---- */

static void note_result(struct lookup *l, enum fail result)
{
    l->dest->results[result]++;
    metric_observe(&l->dest->latency, loop_now(l->dest->loop) - l->asked);
}

static struct oauth_grant grant_of(const struct service_key *key)
{
    return (struct oauth_grant){
        .url = key->token_url,
        .client_id = key->client_id,
        .client_secret = &key->client_secret,
    };
}

static void renew_token(struct lookup *l)
{
    struct oauth_grant grant = grant_of(l->key);
    oauth_refused(l->dest->oauth, &grant, l->token);
    token_unref(l->token);
    l->token = NULL;
    l->renewed = true;
    ask_token(l);
}

/* Takes over the reference to the token. */
static struct found *found_new(const struct destination *dest, struct token *token)
{
    struct found *found = mem_zalloc(sizeof(*found));
    *found = (struct found){.refs = 1, .dest = destination_ref(dest), .token = token};
    return found;
}

/* NULL and read->err when the token for the mail server is none. */
static struct found *take_answer(const struct lookup *l, struct dest_found *read)
{
    struct token *token = NULL;
    if (read->token.n) {
        int64_t now = loop_now(l->dest->loop);
        int64_t lifetime = read->token_lifetime ? read->token_lifetime : TOKEN_LIFETIME;
        token = token_new((struct str){read->token.p, read->token.n}, now + lifetime, &read->err);
        if (!token) {
            return NULL;
        }
        token->received = now;
    }
    return found_new(read->dest, token);
}

/* ---- tokens that the service has not ---- */

/* Tenants of token services with a host for each of them. */
static struct mail_token_of token_of(const struct service_key *key, const struct destination *dest)
{
    return (struct mail_token_of){
        .dest = dest,
        .tenant = key->identity_zone[0] ? key->identity_zone : NULL,
    };
}

static void no_own_token(struct lookup *l, const struct error *err)
{
    struct error both;
    error_set(&both, err->fail, "%.140s; asked directly: %s", l->why.text, err->text);
    failed(l, &both, 0);
}

static void on_own_token(struct token *token, const struct error *err, void *arg)
{
    struct lookup *l = arg;
    l->own = NULL;
    if (token) {
        answered(l, found_new(l->its, token_ref(token)));
    } else {
        no_own_token(l, err);
    }
}

static void ask_own_token(struct lookup *l, const struct dest_found *read)
{
    struct error err;
    struct mail_token_of of = token_of(l->key, read->dest);
    l->its = destination_ref(read->dest);
    l->why = read->err;
    log_line(LOG_DEBUG, "dest", "destination %s of instance \"%s\": %s", l->segment, l->instance,
             l->why.text);
    l->own = mail_token_get(l->dest->oauth, &of, (struct oauth_handler){on_own_token, l}, &err);
    if (!l->own) {
        no_own_token(l, &err);
    }
}

/* ---- answers ---- */

/* A new refresh token takes the place of what the client sends; one that is refused is forgotten.
 */
static void note_rotation(const struct lookup *l, const struct dest_found *read, enum fail result)
{
    if (l->kind != KIND_USER || l->config->auth != AUTH_REFRESH_TOKEN) {
        return;
    }
    if (read->refresh_token.n) {
        rotations_keep(l->dest->rotations, l->sent_by, &read->refresh_token);
    } else if (result == FAIL_AUTH) {
        rotations_drop(l->dest->rotations, l->sent_by);
    }
}

static void read_answer(struct lookup *l, const struct http_answer *answer)
{
    const struct dest_question question = {
        .instance = l->instance,
        .access_token = {l->token->value.p, l->token->value.n},
        .with_token = l->kind == KIND_LOG_IN || l->kind == KIND_USER,
        .user_token = {l->user_token.p, l->user_token.n},
        .allow_loopback = l->dest->allow_loopback,
    };
    struct dest_found read;
    dest_answer_read(&question, answer->head->status, answer->body, &read);
    struct found *found = read.dest ? take_answer(l, &read) : NULL;
    enum fail result = found ? FAIL_NONE : read.err.fail;
    note_result(l, result);
    note_rotation(l, &read, result);
    if (found && !found->token && l->kind == KIND_LOG_IN &&
        found->dest->auth == AUTH_CLIENT_CREDENTIALS) {
        note_trouble(l, NULL);
        unref_found(found);
        ask_own_token(l, &read);
    } else if (fail_may_pass(result) || result == FAIL_AUTH) {
        if (result == FAIL_REMOTE) {
            note_trouble(l, &read.err);
        }
        failed(l, &read.err, http_retry_after(answer->head));
    } else {
        note_trouble(l, NULL);
        answered(l, found ? found : refusal_new(read.verdict, read.err.text));
    }
    dest_found_clear(&read);
}

static bool shows_code(const struct lookup *l)
{
    return l->kind == KIND_USER && l->config->auth == AUTH_AUTHORIZATION_CODE;
}

/* Nobody knows whether the code is still good: only its owner may send it again. */
static void code_not_taken(struct lookup *l)
{
    struct error err;
    struct oauth_grant grant = grant_of(l->key);
    oauth_refused(l->dest->oauth, &grant, l->token);
    error_set(&err, FAIL_REMOTE,
              "Destination service instance \"%.100s\": the service has refused its access token "
              "(401); log in again, with a new code",
              l->instance);
    failed(l, &err, 0);
}

static void on_answer(const struct http_answer *answer, const struct error *err, void *arg)
{
    struct lookup *l = arg;
    l->call = NULL;
    http_origin_release(l->origin);
    l->origin = NULL;
    if (!answer) {
        note_result(l, err->fail);
        not_asked(l, err);
    } else if (answer->head->status == 401 && shows_code(l)) {
        note_result(l, FAIL_AUTH);
        code_not_taken(l);
    } else if (answer->head->status == 401 && !l->renewed) {
        note_result(l, FAIL_AUTH);
        renew_token(l);
    } else {
        read_answer(l, answer);
    }
}

/* ERR when the path does not fit. */
static int find_target(const struct lookup *l, const struct http_url *url, struct buf *target)
{
    struct str prefix = str_eq(url->path, "/") ? str_of("") : url->path;
    return buf_fmt(target, "%.*s" FIND_PATH "%s%s", STR_ARG(prefix), l->segment,
                   l->kind == KIND_CHECK || l->kind == KIND_CONFIG ? "?$skipTokenRetrieval=true"
                                                                   : "");
}

/* A line; nothing when there is no value. */
static int add_header(struct buf *headers, const char *name, const struct secret *value)
{
    if (value->n == 0) {
        return OK;
    }
    bool fits = buf_fmt(headers, "%s", name) == OK && buf_add(headers, value->p, value->n) == OK &&
                buf_add(headers, "\r\n", 2) == OK;
    return fits ? OK : ERR;
}

static int write_headers(const struct lookup *l, struct buf *headers)
{
    if (buf_fmt(headers, "Accept: application/json\r\n") == ERR ||
        add_header(headers, "Authorization: Bearer ", &l->token->value) == ERR) {
        return ERR;
    }
    if (l->kind != KIND_USER) {
        return OK;
    }
    if (!shows_code(l)) {
        return add_header(headers, "X-refresh-token: ", &l->user_token);
    }
    const struct token_service *tokens = l->config->tokens;
    if (add_header(headers, "X-code: ", &l->user_token) == ERR ||
        add_header(headers, "X-redirect-uri: ", &tokens->redirect_uri) == ERR ||
        add_header(headers, "X-code-verifier: ", &tokens->code_verifier) == ERR) {
        return ERR;
    }
    return OK;
}

static void ask_service(struct lookup *l)
{
    struct dest *dest = l->dest;
    struct http_url url;
    char space[TARGET_MAX];
    struct buf target = BUF_ON(space), headers;
    const char *wrong;
    struct error err;
    int rc = http_parse_url(str_of(l->key->uri), &url, &wrong);
    if (rc == OK && find_target(l, &url, &target) == ERR) {
        wrong = "is too long";
        rc = ERR;
    }
    if (rc == ERR) {
        error_set(&err, FAIL_CONFIG, "its uri %s", wrong);
        not_asked(l, &err);
        return;
    }
    const struct http_way way = {.connect_timeout = dest->connect_timeout};
    l->origin = http_origin_use(dest->origins, &url, &way, &err);
    if (!l->origin) {
        not_asked(l, &err);
        return;
    }
    buf_init(&headers, HEADERS_MAX);
    if (write_headers(l, &headers) == ERR) {
        buf_wipe(&headers);
        error_set(&err, FAIL_LIMIT, "what is to be shown to it has more than %d octets",
                  HEADERS_MAX);
        not_asked(l, &err);
        return;
    }
    const struct http_message message = {
        .method = "GET",
        .target = buf_str(&target),
        .headers = buf_str(&headers),
        .once = shows_code(l),
        .answer_timeout = dest->answer_timeout,
        .body_max = DEST_ANSWER_MAX,
    };
    l->asked = loop_now(dest->loop);
    l->call = http_start(http_origin_client(l->origin), &message,
                         (struct http_handler){.done = on_answer, .arg = l});
    buf_wipe(&headers);
}

static void on_token(struct token *token, const struct error *err, void *arg)
{
    struct lookup *l = arg;
    l->wait = NULL;
    if (token) {
        l->token = token_ref(token);
        ask_service(l);
    } else {
        not_asked(l, err);
    }
}

static void ask_token(struct lookup *l)
{
    struct oauth_grant grant = grant_of(l->key);
    l->wait = oauth_get(l->dest->oauth, &grant, (struct oauth_handler){on_token, l});
}

/* A refresh token is the client's whatever user it names, of all that a reference says. */
static void set_user(struct lookup *l, const struct dest_request *request)
{
    struct buf key;
    buf_init(&key, REF_KEY_MAX);
    if (dest_ref_key(&key, &request->ref) == ERR) {
        buf_drop(&key, buf_len(&key)); /* no more than a segment of a path in the API server */
    }
    const struct str parts[] = {buf_str(&key), {request->user_token.p, request->user_token.n}};
    digest_sha256(l->sent_by, parts, ARRAY_LEN(parts));
    buf_free(&key);
    l->config = destination_ref(request->config->dest);
    const struct secret *newer = l->config->auth == AUTH_REFRESH_TOKEN
                                     ? rotations_find(l->dest->rotations, l->sent_by)
                                     : NULL;
    const struct secret *token = newer ? newer : &request->user_token;
    secret_set(&l->user_token, token->p, token->n);
}

static void *fetch(struct cache_entry *entry, struct str key, const void *request, void *arg)
{
    (void)key;
    const struct question *question = request;
    struct lookup *l = mem_zalloc(sizeof(*l));
    *l = (struct lookup){
        .dest = arg,
        .entry = entry,
        .key = service_key_ref(question->instance->key),
        .generation = question->instance->generation,
        .kind = question->kind,
        .instance = mem_strdup(question->instance->name),
        .segment = mem_strndup(question->segment.p, question->segment.n),
    };
    if (l->kind == KIND_USER) {
        set_user(l, question->user);
    }
    ask_token(l);
    return l;
}

/* ---- as a source of destinations ---- */

static void request_free(struct dest_request *request)
{
    cache_cancel(request->wait);
    task_cancel(&request->task);
    if (request->refusal) {
        unref_found(request->refusal);
    }
    if (request->config) {
        unref_found(request->config);
    }
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

static void tell_found(struct dest_request *request, const struct found *found)
{
    struct dest_answer answer = {
        .dest = found->dest,
        .token = found->token,
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
static bool is_outdated(const struct dest_request *request, const struct found *found);
static void forget(struct dest *dest, const struct dest_ref *ref, const struct dest_user *user,
                   const struct found *found, const struct token *token);

static void on_cached(void *value, const struct error *err, void *arg)
{
    struct dest_request *request = arg;
    struct found *found = value;
    request->wait = NULL;
    if (found && request->user && !request->config && takes_user(found->dest)) {
        request->config = ref_found(found);
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
    struct found *refusal = request->refusal;
    request->refusal = NULL;
    tell_found(request, refusal);
    unref_found(refusal);
}

static struct found *no_instance(const char *name)
{
    char shown[120], words[FAIL_TEXT_MAX];
    if (!name) {
        return refusal_new(VERDICT_INSTANCE_NOT_CONFIGURED,
                           "Destination service instance name should be provided: there is no "
                           "default instance");
    }
    text_printable(shown, sizeof(shown), str_of(name));
    text_fmt(words, sizeof(words), "Destination service instance \"%s\" is not configured%s", shown,
             strstr(name, "//") ? "; \"//\" begins no comment in YAML: what follows it is part of "
                                  "the name"
                                : "");
    return refusal_new(VERDICT_INSTANCE_NOT_CONFIGURED, words);
}

static void ask(struct dest_request *request, const struct dest_ref *ref, enum kind kind)
{
    struct dest *dest = request->dest;
    const struct instance *instance = ref->instance ? find_instance(dest, ref->instance) : NULL;
    char space[SEGMENT_MAX];
    struct buf segment = BUF_ON(space);
    if (!instance) {
        request->refusal = no_instance(ref->instance);
    } else if (!instance->key) {
        request->refusal = refusal_new(VERDICT_INSTANCE_NOT_CONFIGURED, instance->problem);
    } else if (http_encode_segment(&segment, str_of(ref->name)) == ERR) {
        request->refusal = refusal_new(VERDICT_NOT_FOUND, "no destination can have this name");
    } else {
        struct question question = {instance, buf_str(&segment), kind, request};
        struct user_digest user = {0};
        if (kind == KIND_USER) {
            user = digest_of(request->user, &request->user_token);
        }
        struct answer_key key = user_key(kind, instance->generation, question.segment, user);
        request->wait = cache_get(dest->cache, key_str(&key), &question,
                                  (struct cache_handler){on_cached, request});
    }
    if (request->refusal) {
        loop_soon(dest->loop, &request->task, on_refused);
    }
}

static void ask_for_user(struct dest_request *request)
{
    request->asked = loop_now(request->dest->loop);
    ask(request, &request->ref, KIND_USER);
}

/* Is this the token of a destination that has changed since? Then it is forgotten. */
static bool is_outdated(const struct dest_request *request, const struct found *found)
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
        ask(request, ref, KIND_CHECK);
    } else if (user) {
        request->ref = dest_ref_copy(ref);
        request->user = mem_strdup(user->name);
        secret_set(&request->user_token, user->secret->p, user->secret->n);
        ask(request, ref, KIND_CONFIG);
    } else {
        ask(request, ref, KIND_LOG_IN);
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

/* What is known of the token for this user (NULL: for none), if it is `found`, or its token is
 * `token`. */
static void forget(struct dest *dest, const struct dest_ref *ref, const struct dest_user *user,
                   const struct found *found, const struct token *token)
{
    const struct instance *instance = ref->instance ? find_instance(dest, ref->instance) : NULL;
    char space[SEGMENT_MAX];
    struct buf segment = BUF_ON(space);
    if (!instance || !instance->key || http_encode_segment(&segment, str_of(ref->name)) == ERR) {
        return;
    }
    struct answer_key key = user ? user_key(KIND_USER, instance->generation, buf_str(&segment),
                                            digest_of(user->name, user->secret))
                                 : key_of(KIND_LOG_IN, instance->generation, buf_str(&segment));
    const struct found *known = cache_peek(dest->cache, key_str(&key));
    if (!known || (known != found && (!token || known->token != token))) {
        return;
    }
    if (token && known->dest->auth == AUTH_CLIENT_CREDENTIALS) {
        /* It may be one that we have got ourselves. */
        struct mail_token_of of = token_of(instance->key, known->dest);
        mail_token_refused(dest->oauth, &of, token);
    }
    cache_drop(dest->cache, key_str(&key), known);
}

/* The next one who asks gets another. Does nothing when that has happened already. */
static void refused(struct dest_source *source, const struct dest_ref *ref,
                    const struct dest_user *user, const struct token *token)
{
    forget(container_of(source, struct dest, source), ref, user, NULL, token);
}

struct dest_source *dest_service(struct dest *dest)
{
    return &dest->source;
}

/* ---- the whole ---- */

struct dest *dest_new(struct loop *loop, struct dns *dns, struct oauth *oauth,
                      struct tls_roots *roots, bool allow_loopback)
{
    struct dest *dest = mem_zalloc(sizeof(*dest));
    const struct cache_settings settings = {
        .max_entries = ANSWERS_MAX,
        .retry_min = RETRY_MIN,
        .retry_max = RETRY_MAX,
        .fetch = fetch,
        .abandon = abandon,
        .ref = ref_found,
        .unref = unref_found,
        .arg = dest,
    };
    dest->loop = loop;
    dest->oauth = oauth;
    dest->origins = http_origins_new(loop, dns, roots);
    dest->cache = cache_new(loop, &settings);
    dest->rotations = rotations_new();
    dest->source = (struct dest_source){.find = find, .cancel = cancel, .refused = refused};
    dest->allow_loopback = allow_loopback;
    list_init(&dest->instances);
    dest_set_timeouts(dest, SECONDS(5), SECONDS(10));
    return dest;
}

void dest_free(struct dest *dest)
{
    if (dest) {
        cache_free(dest->cache);
        rotations_free(dest->rotations);
        http_origins_free(dest->origins);
        LIST_EACH (it, &dest->instances) {
            instance_free(container_of(it, struct instance, link));
        }
        free(dest);
    }
}

void dest_set_timeouts(struct dest *dest, int64_t connect, int64_t answer)
{
    dest->connect_timeout = connect;
    dest->answer_timeout = answer;
}

void dest_metrics(const struct dest *dest, struct buf *out)
{
    struct cache_stats stats = cache_stats(dest->cache);
    metric_results(out, "tproxy_destination_service_requests_total",
                   "Requests to the Destination service by result.", dest->results);
    metric_head(out, "tproxy_destination_service_request_seconds", METRIC_HISTOGRAM,
                "Time of a request to the Destination service.");
    metric_histogram(out, "tproxy_destination_service_request_seconds", NULL, &dest->latency);
    metric_head(
        out, "tproxy_destination_cache_total", METRIC_COUNTER,
        "Questions for destinations that were answered from memory (hits), or had to wait.");
    metric_count(out, "tproxy_destination_cache_total",
                 (struct metric_label[]){{"result", "hits"}, {0}}, stats.hits);
    metric_count(out, "tproxy_destination_cache_total",
                 (struct metric_label[]){{"result", "misses"}, {0}}, stats.misses);
}

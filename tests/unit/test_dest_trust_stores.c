/* Tests dest/trust_stores: equal stores are kept once, and no longer than they are used. */
#include "dest/trust_stores.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/destination.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/tls_roots.h"
#include "tests/unit/world/tls_peer.h"

static struct dest_trust_stores stores;

/* Returns a destination that trusts the certificates of both files, in this order. */
static const struct destination *trusting(const char *first, const char *second)
{
    const char *const files[] = {first, second};
    char text[32768], path[64];
    size_t n = 0;
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        tls_peer_path(path, sizeof(path), files[i]);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        n += fread(text + n, 1, sizeof(text) - n, f);
        fclose(f);
    }
    struct destination *dest = mem_zalloc(sizeof(*dest));
    dest->refs = 1;
    dest->trust_store = tls_roots_of("a store", (struct str){text, n}, &err);
    assert_non_null(dest->trust_store);
    dest_trust_stores_share(&stores, dest);
    return dest;
}

static void test_shared(void **state)
{
    (void)state;
    dest_trust_stores_init(&stores);
    const struct destination *a = trusting("ca.crt", "other.crt");
    const struct destination *same = trusting("ca.crt", "other.crt");
    const struct destination *order = trusting("other.crt", "ca.crt");
    const struct destination *left_out = trusting("strange.pem", "empty.pem");
    const struct destination *none_left_out = trusting("other.crt", "ca.crt");
    const struct destination none = {.refs = 1};
    dest_trust_stores_share(&stores, &none);

    assert_ptr_equal(same->trust_store, a->trust_store);
    assert_ptr_not_equal(order->trust_store, a->trust_store);
    assert_ptr_equal(none_left_out->trust_store, order->trust_store);
    /* the same certificates, but another one has to be named when it is missed */
    assert_ptr_not_equal(left_out->trust_store, order->trust_store);
    assert_int_equal(stores.by_digest.n, 3);

    destination_unref(a);
    dest_trust_stores_close(&stores);
    assert_int_equal(tls_roots_count(same->trust_store), 2);
    destination_unref(same);
    destination_unref(order);
    destination_unref(left_out);
    destination_unref(none_left_out);
}

/* Of stores that come and go, few are kept. */
static void test_forgotten(void **state)
{
    (void)state;
    static const char *const files[] = {"ca.crt",     "other.crt", "good.crt",
                                        "rsa.crt",    "weak.crt",  "chain.crt",
                                        "middle.crt", "self.crt",  "old.crt"};
    dest_trust_stores_init(&stores);
    const struct destination *kept = trusting("ca.crt", "ca.crt");
    size_t distinct = 0, most = 0;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        for (size_t j = 0; j < ARRAY_LEN(files); j++, distinct++) {
            destination_unref(trusting(files[i], files[j]));
            most = stores.by_digest.n > most ? stores.by_digest.n : most;
        }
    }
    assert_int_equal(distinct, 81);
    assert_in_range(most, 2, 16);
    const struct destination *again = trusting("ca.crt", "ca.crt");
    assert_ptr_equal(again->trust_store, kept->trust_store);
    destination_unref(kept);
    destination_unref(again);
    dest_trust_stores_close(&stores);
}

static int start_peer(void **state)
{
    (void)state;
    return tls_peer_start() == ERR ? -1 : 0;
}

static int stop_peer(void **state)
{
    (void)state;
    return tls_peer_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_forgotten),
    };
    return cmocka_run_group_tests(tests, start_peer, stop_peer);
}

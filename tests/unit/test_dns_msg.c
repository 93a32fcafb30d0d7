/* Tests lib/dns_msg: names, questions, and answers whole and cut at every byte. */
#include "lib/dns_msg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ID = 0x1234, OK_FLAGS = 0x8180, CNAME = 5, SOA = 6 };

static struct {
    unsigned char p[70000];
    size_t n;
} msg;

static void u8(unsigned v)
{
    msg.p[msg.n++] = (unsigned char)v;
}

static void u16(unsigned v)
{
    u8(v >> 8);
    u8(v);
}

static void u32(uint32_t v)
{
    u16(v >> 16);
    u16(v & 0xFFFF);
}

static void name(const char *text)
{
    struct str rest = str_of(text);
    while (rest.n) {
        struct str label = str_cut(&rest, '.');
        u8((unsigned)label.n);
        memcpy(msg.p + msg.n, label.p, label.n);
        msg.n += label.n;
    }
    u8(0);
}

/* Writes a pointer to an offset; 12 is the question's name. */
static void pointer(unsigned to)
{
    u16(0xC000 | to);
}

static void head(unsigned flags, const char *question, unsigned type, unsigned answers,
                 unsigned authorities)
{
    msg.n = 0;
    u16(ID);
    u16(flags);
    u16(1);
    u16(answers);
    u16(authorities);
    u16(0);
    name(question);
    u16(type);
    u16(1);
}

/* Writes a record's fields between the owner's name and the data. */
static void record(unsigned type, uint32_t ttl, unsigned length)
{
    u16(type);
    u16(1);
    u32(ttl);
    u16(length);
}

static void a_record(uint32_t ttl, uint32_t ip)
{
    record(DNS_TYPE_A, ttl, 4);
    u32(ip);
}

static void soa_record(uint32_t ttl, uint32_t minimum)
{
    record(SOA, ttl, 1 + 1 + 20);
    name("");
    name("");
    u32(1);
    u32(2);
    u32(3);
    u32(4);
    u32(minimum);
}

static struct dns_answer answer;

/* Reads a copy of exactly n bytes, so that the sanitizer sees every access beyond. */
static int read_n(size_t n, const char *question, enum dns_type type)
{
    unsigned char *copy = malloc(n ? n : 1);
    memcpy(copy, msg.p, n);
    int rc = dns_msg_answer(copy, n, ID, question, type, &answer);
    free(copy);
    return rc;
}

static int read_all(const char *question, enum dns_type type)
{
    return read_n(msg.n, question, type);
}

static void expect_addr(size_t i, const char *text)
{
    assert_string_equal(addr_text(&answer.addrs[i]).s, text);
}

static void valid_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a",       "a.b",      "a.b.",       "x-1.example.com",
                                       "_s._tcp", "1and1.de", "1.2.3.4.in", "0x7f"};
    static const char *const bad[] = {"",    ".",    "a..b",      ".a",      "a.b..",
                                      "a b", "a\nb", "b\xc3\xbc", "1.2.3.4", "127.1",
                                      "a.1", "a/b",  "a:1",       "[::1]",   "1"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(dns_name_valid(good[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(dns_name_valid(bad[i]));
    }
    char label[80], longest[300];
    memset(label, 'a', sizeof(label));
    label[63] = '\0';
    assert_true(dns_name_valid(label));
    label[63] = 'a';
    label[64] = '\0';
    assert_false(dns_name_valid(label));
    for (size_t i = 0; i < DNS_NAME_MAX; i++) {
        longest[i] = i % 2 ? '.' : 'a';
    }
    longest[DNS_NAME_MAX] = '\0';
    assert_true(dns_name_valid(longest));
    unsigned char query[DNS_MSG_QUERY_MAX];
    assert_int_equal(dns_msg_query(query, 1, longest, DNS_TYPE_A), DNS_MSG_QUERY_MAX);
    longest[DNS_NAME_MAX] = '.';
    longest[DNS_NAME_MAX + 1] = '\0';
    assert_true(dns_name_valid(longest));
    longest[DNS_NAME_MAX + 1] = 'a';
    longest[DNS_NAME_MAX + 2] = '\0';
    assert_false(dns_name_valid(longest));
}

static void the_question(void **state)
{
    (void)state;
    unsigned char query[DNS_MSG_QUERY_MAX];
    static const unsigned char wire[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                                        "\x04mail\x07"
                                        "example\x00\x00\x1c\x00\x01";
    size_t n = dns_msg_query(query, ID, "Mail.example.", DNS_TYPE_AAAA);
    assert_int_equal(n, sizeof(wire) - 1);
    assert_memory_equal(query, wire, n);
}

static void addresses(void **state)
{
    (void)state;
    head(OK_FLAGS, "MAIL.example", DNS_TYPE_A, 2, 0);
    pointer(12);
    a_record(300, 0x0A000001);
    pointer(12);
    a_record(200, 0x0A000002);
    assert_int_equal(read_all("mail.example", DNS_TYPE_A), OK);
    assert_int_equal(answer.outcome, DNS_ADDRESSES);
    assert_int_equal(answer.n, 2);
    assert_int_equal(answer.ttl, 200);
    expect_addr(0, "10.0.0.1");
    expect_addr(1, "10.0.0.2");
    for (size_t n = 0; n < msg.n; n++) {
        assert_int_equal(read_n(n, "mail.example", DNS_TYPE_A), ERR);
    }

    head(OK_FLAGS, "mail.example", DNS_TYPE_AAAA, 1, 0);
    name("mail.EXAMPLE");
    record(DNS_TYPE_AAAA, 0x80000000, 16);
    for (unsigned i = 0; i < 16; i++) {
        u8(i);
    }
    assert_int_equal(read_all("mail.example.", DNS_TYPE_AAAA), OK);
    assert_int_equal(answer.ttl, 0);
    expect_addr(0, "1:203:405:607:809:a0b:c0d:e0f");
    for (size_t n = 0; n < msg.n; n++) {
        assert_int_equal(read_n(n, "mail.example", DNS_TYPE_AAAA), ERR);
    }
}

static void more_than_fit(void **state)
{
    (void)state;
    head(OK_FLAGS, "a", DNS_TYPE_A, 4000, 1);
    for (unsigned i = 0; i < 4000; i++) {
        pointer(12);
        a_record(60, i);
    }
    pointer(12);
    soa_record(1, 1);
    assert_int_equal(read_all("a", DNS_TYPE_A), OK);
    assert_int_equal(answer.outcome, DNS_ADDRESSES);
    assert_int_equal(answer.n, DNS_MAX_ADDRS);
}

static void not_our_question(void **state)
{
    (void)state;
    head(OK_FLAGS, "a.b", DNS_TYPE_A, 1, 0);
    pointer(12);
    a_record(300, 1);
    assert_int_equal(read_all("a.c", DNS_TYPE_A), ERR);
    assert_int_equal(read_all("a", DNS_TYPE_A), ERR);
    assert_int_equal(read_all("a.b", DNS_TYPE_AAAA), ERR);
    assert_int_equal(dns_msg_answer(msg.p, msg.n, ID + 1, "a.b", DNS_TYPE_A, &answer), ERR);
    msg.p[2] = 0x01; /* a question, not an answer */
    assert_int_equal(read_all("a.b", DNS_TYPE_A), ERR);
    msg.p[2] = 0xA1; /* an answer to another operation than a query */
    assert_int_equal(read_all("a.b", DNS_TYPE_A), ERR);
    msg.p[2] = 0x81;
    assert_int_equal(read_all("a.b", DNS_TYPE_A), OK);
    msg.p[5] = 2; /* two questions */
    assert_int_equal(read_all("a.b", DNS_TYPE_A), ERR);
    msg.p[5] = 1;
    msg.p[12 + 5 + 3] = 3; /* class CHAOS */
    assert_int_equal(read_all("a.b", DNS_TYPE_A), ERR);
}

static void other_records_are_skipped(void **state)
{
    (void)state;
    head(OK_FLAGS, "a", DNS_TYPE_A, 3, 0);
    name("elsewhere");
    a_record(5, 1);
    pointer(12);
    record(16, 5, 3);
    u8(2);
    u16(0x6162);
    pointer(12);
    a_record(60, 2);
    assert_int_equal(read_all("a", DNS_TYPE_A), OK);
    assert_int_equal(answer.n, 1);
    assert_int_equal(answer.ttl, 60);
    expect_addr(0, "0.0.0.2");

    head(OK_FLAGS, "a", DNS_TYPE_A, 1, 0);
    pointer(12);
    record(DNS_TYPE_A, 5, 5); /* one octet too long for an address */
    u32(1);
    u8(1);
    assert_int_equal(read_all("a", DNS_TYPE_A), ERR);
}

/* Writes a -> b -> c with the address of c, in this order or backwards. */
static void aliases(void **state)
{
    (void)state;
    for (int backwards = 0; backwards < 2; backwards++) {
        head(OK_FLAGS, "a", DNS_TYPE_A, 3, 0);
        for (int i = 0; i < 3; i++) {
            switch (backwards ? 2 - i : i) {
            case 0:
                name("a");
                record(CNAME, 50, 3);
                name("B");
                break;
            case 1:
                name("b");
                record(CNAME, 20, 3);
                name("c");
                break;
            default:
                name("C");
                a_record(300, 0x01020304);
                break;
            }
        }
        assert_int_equal(read_all("a", DNS_TYPE_A), OK);
        assert_int_equal(answer.outcome, DNS_ADDRESSES);
        assert_int_equal(answer.ttl, 20);
        expect_addr(0, "1.2.3.4");
        for (size_t n = 0; n < msg.n; n++) {
            assert_int_equal(read_n(n, "a", DNS_TYPE_A), ERR);
        }
    }
}

static void alias_to_nothing(void **state)
{
    (void)state;
    head(OK_FLAGS, "a", DNS_TYPE_A, 1, 1);
    pointer(12);
    record(CNAME, 50, 3);
    name("b");
    name("b");
    soa_record(100, 10);
    assert_int_equal(read_all("a", DNS_TYPE_A), OK);
    assert_int_equal(answer.outcome, DNS_NO_ADDRESS);
    assert_int_equal(answer.ttl, 10);

    head(OK_FLAGS, "a", DNS_TYPE_A, 1, 0);
    pointer(12);
    record(CNAME, 50, 2);
    pointer(12); /* to itself */
    assert_int_equal(read_all("a", DNS_TYPE_A), OK);
    assert_int_equal(answer.outcome, DNS_SERVER_FAILED);
    assert_string_equal(answer.problem, "too many aliases");

    head(OK_FLAGS, "a", DNS_TYPE_A, 1, 0);
    pointer(12);
    record(CNAME, 50, 4); /* longer than the name in the record */
    name("b");
    u8(0);
    assert_int_equal(read_all("a", DNS_TYPE_A), ERR);
}

static void absence(void **state)
{
    (void)state;
    head(OK_FLAGS | 3, "a", DNS_TYPE_A, 0, 1);
    name("");
    soa_record(40, 900);
    assert_int_equal(read_all("a", DNS_TYPE_A), OK);
    assert_int_equal(answer.outcome, DNS_NO_NAME);
    assert_int_equal(answer.ttl, 40);
    for (size_t n = 0; n < msg.n; n++) {
        assert_int_equal(read_n(n, "a", DNS_TYPE_A), ERR);
    }

    head(OK_FLAGS, "a", DNS_TYPE_A, 0, 0);
    assert_int_equal(read_all("a", DNS_TYPE_A), OK);
    assert_int_equal(answer.outcome, DNS_NO_ADDRESS);
    assert_int_equal(answer.ttl, 0);

    /* A contradiction, in which the code counts: the name does not exist. */
    head(OK_FLAGS | 3, "a", DNS_TYPE_A, 1, 0);
    pointer(12);
    a_record(1, 1);
    assert_int_equal(read_all("a", DNS_TYPE_A), OK);
    assert_int_equal(answer.outcome, DNS_NO_NAME);
    assert_int_equal(answer.n, 0);
}

static void failures(void **state)
{
    (void)state;
    static const struct {
        unsigned rcode;
        const char *problem;
    } table[] = {{1, "FORMERR"},
                 {2, "SERVFAIL"},
                 {4, "NOTIMP"},
                 {5, "REFUSED"},
                 {9, "unknown response code"}};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        head(OK_FLAGS | table[i].rcode, "a", DNS_TYPE_A, 0, 0);
        assert_int_equal(read_all("a", DNS_TYPE_A), OK);
        assert_int_equal(answer.outcome, DNS_SERVER_FAILED);
        assert_string_equal(answer.problem, table[i].problem);
    }
    head(OK_FLAGS | 0x0200, "a", DNS_TYPE_A, 7, 0);
    assert_int_equal(read_all("a", DNS_TYPE_A), OK);
    assert_int_equal(answer.outcome, DNS_TRUNCATED);
}

/* Pointers or lengths make these names endless or too long. */
static void hostile_names(void **state)
{
    (void)state;
    unsigned here;
    head(OK_FLAGS, "a", DNS_TYPE_A, 1, 0);
    here = (unsigned)msg.n;
    pointer(here); /* to itself */
    a_record(1, 1);
    assert_int_equal(read_all("a", DNS_TYPE_A), ERR);

    head(OK_FLAGS, "a", DNS_TYPE_A, 1, 0);
    here = (unsigned)msg.n;
    u8(1);
    u8('x');
    pointer(here); /* back to its own start */
    a_record(1, 1);
    assert_int_equal(read_all("a", DNS_TYPE_A), ERR);

    head(OK_FLAGS, "a", DNS_TYPE_A, 1, 0);
    pointer((unsigned)msg.n + 2); /* forwards */
    a_record(1, 1);
    assert_int_equal(read_all("a", DNS_TYPE_A), ERR);

    head(OK_FLAGS, "a", DNS_TYPE_A, 1, 0);
    u8(0x40); /* an unused type of label */
    u8(0);
    a_record(1, 1);
    assert_int_equal(read_all("a", DNS_TYPE_A), ERR);

    for (unsigned labels = 4; labels <= 5; labels++) {
        head(OK_FLAGS, "a", DNS_TYPE_A, 1, 0);
        for (unsigned i = 0; i < labels; i++) {
            u8(i < 3 ? 63 : i == 3 ? 61 : 1);
            for (unsigned k = 0; k < (i < 3 ? 63 : i == 3 ? 61 : 1); k++) {
                u8('x');
            }
        }
        u8(0);
        a_record(1, 1);
        assert_int_equal(read_all("a", DNS_TYPE_A), labels == 4 ? OK : ERR);
    }
}

/* Writes addresses whose owner's name is reached by `jumps` pointers, each two octets behind the
 * next one. All pointers except the first lie in the data of another record. */
static void chain_of_pointers(unsigned jumps, unsigned owners)
{
    head(OK_FLAGS, "a", DNS_TYPE_A, 1 + owners, 0);
    pointer(12);
    record(16, 5, 2 * (jumps - 1));
    unsigned last = 12;
    for (unsigned i = 1; i < jumps; i++) {
        unsigned here = (unsigned)msg.n;
        pointer(last);
        last = here;
    }
    for (unsigned i = 0; i < owners; i++) {
        pointer(last);
        a_record(60, 0x0A000001);
    }
}

/* The number of pointers in a name bounds the cost of a message; pointers in irrelevant records are
 * not followed. */
static void pointers_are_counted(void **state)
{
    (void)state;
    chain_of_pointers(32, 100);
    assert_int_equal(read_all("a", DNS_TYPE_A), OK);
    assert_int_equal(answer.n, DNS_MAX_ADDRS);
    chain_of_pointers(33, 1);
    assert_int_equal(read_all("a", DNS_TYPE_A), ERR);
    chain_of_pointers(8000, 100);
    assert_int_equal(read_all("a", DNS_TYPE_A), ERR);

    chain_of_pointers(8000, 0);
    msg.p[7] = 2;
    pointer((unsigned)msg.n - 2);
    record(16, 5, 0);
    assert_int_equal(read_all("a", DNS_TYPE_A), OK);
    assert_int_equal(answer.outcome, DNS_NO_ADDRESS);

    /* The bound holds for the target of an alias as well. */
    for (unsigned jumps = 32; jumps <= 33; jumps++) {
        chain_of_pointers(jumps, 0);
        unsigned last = (unsigned)msg.n - 2;
        msg.p[7] = 2;
        pointer(12);
        record(CNAME, 5, 2);
        pointer(last);
        assert_int_equal(read_all("a", DNS_TYPE_A), jumps == 32 ? OK : ERR);
    }
}

/* A label may hold a dot: "a.b" in one label is another name than two labels. */
static void dot_in_label(void **state)
{
    (void)state;
    head(OK_FLAGS, "a.b", DNS_TYPE_A, 1, 0);
    u8(3);
    u8('a');
    u8('.');
    u8('b');
    u8(0);
    a_record(1, 1);
    assert_int_equal(read_all("a.b", DNS_TYPE_A), OK);
    assert_int_equal(answer.outcome, DNS_NO_ADDRESS);
}

/* Every octet of a good answer is replaced by every value: each result is decided without a read
 * beyond the message. */
static void every_octet_changed(void **state)
{
    (void)state;
    head(OK_FLAGS, "a.b", DNS_TYPE_A, 2, 1);
    pointer(12);
    record(CNAME, 50, 4);
    u8(1);
    u8('c');
    pointer(14);
    u8(1);
    u8('c');
    pointer(14);
    a_record(60, 1);
    pointer(14);
    soa_record(1, 1);
    for (size_t i = 0; i < msg.n; i++) {
        unsigned char was = msg.p[i];
        for (unsigned v = 0; v < 256; v++) {
            msg.p[i] = (unsigned char)v;
            int rc = read_all("a.b", DNS_TYPE_A);
            assert_true(rc == OK || rc == ERR);
            assert_true(answer.n <= DNS_MAX_ADDRS);
        }
        msg.p[i] = was;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_names),      cmocka_unit_test(the_question),
        cmocka_unit_test(addresses),        cmocka_unit_test(more_than_fit),
        cmocka_unit_test(not_our_question), cmocka_unit_test(other_records_are_skipped),
        cmocka_unit_test(aliases),          cmocka_unit_test(alias_to_nothing),
        cmocka_unit_test(absence),          cmocka_unit_test(failures),
        cmocka_unit_test(hostile_names),    cmocka_unit_test(pointers_are_counted),
        cmocka_unit_test(dot_in_label),     cmocka_unit_test(every_octet_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Tests lib/pop3_stream: QUIT and an answer's end are recognised whole, byte by byte, and cut at
 * every place. */
#include "lib/pop3_stream.h"

#include <string.h>

#include "tests/unit/check.h"

static const struct {
    const char *text;
    bool quit;
} dialogues[] = {
    {"QUIT\r\n", true},
    {"QUIT\n", true},
    {"quit\r\n", true},
    {"qUiT\r\n", true},
    {"QUIT \r\n", true},
    {" \tQUIT\t \r\n", true},
    {"QUIT now\r\n", true},
    {"RETR 1\r\nDELE 1\r\nQUIT\r\n", true},
    {"RETR 1\r\n\r\n\r\nQUIT\r\n\r\n", true},
    {"QUIT\r\nNOOP\r\n", true},
    {"QUIT\r\nNOO", true},
    {"\r\nQUIT\n", true},
    {"", false},
    {"QUIT", false},
    {"QUIT\r", false},
    {"NOOP\r\nQUIT", false},
    {"QUITE\r\n", false},
    {"QUI\r\n", false},
    {"QUI T\r\n", false},
    {"QUQUIT\r\n", false},
    {"QQUIT\r\n", false},
    {"NOOP QUIT\r\n", false},
    {"\xff\xf4\xff\xfd\x06QUIT\r\n", false},
    {"QU\r\nIT\r\n", false},
    {"\x11UIT\r\n", false},
};

static bool said_quit(const char *text, size_t cut, size_t piece)
{
    struct pop3_said said = {0};
    size_t n = strlen(text);
    pop3_said_add(&said, (struct str){text, cut});
    for (size_t at = cut; at < n; at += piece) {
        pop3_said_add(&said, (struct str){text + at, piece < n - at ? piece : n - at});
    }
    return said.quit;
}

static void test_quit(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(dialogues); i++) {
        const char *text = dialogues[i].text;
        assert_int_equal(said_quit(text, 0, 1), dialogues[i].quit);
        for (size_t cut = 0; cut <= strlen(text); cut++) {
            assert_int_equal(said_quit(text, cut, sizeof(dialogues)), dialogues[i].quit);
        }
    }
}

static void test_begun_marker(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t begun;
    } rows[] = {
        {"", 0},          {"\r", 1},        {"\r\n", 2},        {"\r\n.", 3},
        {"\r\n.\r", 4},   {"\r\n.\r\n", 0}, {"x\r\n.\r\n", 0},  {"x\r", 1},
        {"x\n", 0},       {"x\r\n", 2},     {"\r\n.\r\n\r", 1}, {"\r\n.\r\n.", 3},
        {"\r\n.\r\r", 1}, {"\r\n..\r", 1},  {"\r\n.\r\nx", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(pop3_begun_marker(str_of(rows[i].text)), rows[i].begun);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quit),
        cmocka_unit_test(test_begun_marker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

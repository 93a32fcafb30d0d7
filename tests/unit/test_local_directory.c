/* Tests local/directory with a real directory, real inotify and the real loop: what is reported for
 * every way in which files change. */
#include "local/directory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/dest_source.h"
#include "core/destination.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "local/file.h"
#include "local/object.h"

/* The reports, one line each: "+name host", "-name" for a destination, "+Kind namespace/name",
 * "-Kind namespace/name" for an object, "!file text", "=file", "." when settled. */
static char told[1 << 20];
static size_t told_n;

static char dir[512], base[256];
static struct loop *loop;
static struct local_directory *local;
static struct timer deadline;
static bool late;

static void note(const char *fmt, ...) printf_like(1, 2);
static void note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    told_n += (size_t)vsnprintf(told + told_n, sizeof(told) - told_n, fmt, ap);
    va_end(ap);
    assert_true(told_n < sizeof(told));
}

static const char *short_path(const char *path)
{
    return strncmp(path, dir, strlen(dir)) == 0 && path[strlen(dir)] ? path + strlen(dir) + 1 : ".";
}

static void on_changed(const struct destination *dest, void *arg)
{
    assert_ptr_equal(arg, told);
    note("+%s %s\n", dest->name, dest->host);
}

static void on_gone(const char *name, void *arg)
{
    (void)arg;
    note("-%s\n", name);
}

static void on_object_changed(const struct local_object *object, void *arg)
{
    assert_ptr_equal(arg, told);
    note("+%s %s/%s\n", object->kind, object->namespace, object->name);
}

static void on_object_gone(const struct local_object *object, void *arg)
{
    assert_ptr_equal(arg, told);
    note("-%s %s/%s\n", object->kind, object->namespace, object->name);
}

static void on_complaint(const char *path, const char *text, void *arg)
{
    (void)arg;
    if (text) {
        note("!%s %s\n", short_path(path), text);
    } else {
        note("=%s\n", short_path(path));
    }
}

static void on_settled(void *arg)
{
    (void)arg;
    note(".\n");
}

static const struct local_directory_handler handler = {.destination_changed = on_changed,
                                                       .destination_gone = on_gone,
                                                       .object_changed = on_object_changed,
                                                       .object_gone = on_object_gone,
                                                       .complaint = on_complaint,
                                                       .settled = on_settled,
                                                       .arg = told};

static void on_deadline(struct timer *t)
{
    (void)t;
    late = true;
}

/* Turns the loop until a line that begins with `line` has been reported, then clears the text up to
 * the following '.'. */
static void expect(const char *line)
{
    char wanted[512];
    text_fmt(wanted, sizeof(wanted), "\n%s", line);
    late = false;
    timer_set(loop, &deadline, sys->now() + SECONDS(60), on_deadline);
    for (;;) {
        char *found = strstr(told, wanted);
        char *end = found ? strstr(found, "\n.\n") : NULL;
        if (end) {
            break;
        }
        if (late) {
            fail_msg("not told: %s\ntold:%s", line, told);
        }
        loop_turn(loop, true);
    }
    timer_cancel(loop, &deadline);
}

static bool was_told(const char *part)
{
    return strstr(told, part) != NULL;
}

static void forget(void)
{
    told_n = 0;
    note("\n");
}

static const char *in_dir(const char *name)
{
    static char paths[4][1024];
    static unsigned next;
    char *path = paths[next++ % 4];
    text_fmt(path, sizeof(paths[0]), "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const char *fmt, ...) printf_like(2, 3);
static void write_file(const char *name, const char *fmt, ...)
{
    va_list ap;
    FILE *f = fopen(in_dir(name), "w");
    assert_non_null(f);
    va_start(ap, fmt);
    vfprintf(f, fmt, ap);
    va_end(ap);
    assert_int_equal(fclose(f), 0);
}

/* Writes a destination called `target` on `host`. */
static void write_dest(const char *file, const char *target, const char *host)
{
    write_file(file,
               "{\"Name\": \"%s\", \"Type\": \"MAIL\", \"ProxyType\": \"Internet\",\n"
               " \"mail.user\": \"u\", \"mail.password\": \"hush\", \"mail.pop3.host\": \"%s\"}\n",
               target, host);
}

static void start(void)
{
    struct error err;
    forget();
    local = local_directory_new(loop, dir, handler, &err);
    if (!local) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(told, "\n");
}

static int setup(void **state)
{
    (void)state;
    struct error err;
    const char *tmp = getenv("TMPDIR");
    text_fmt(base, sizeof(base), "%s/test_local.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(base)) {
        return -1;
    }
    text_fmt(dir, sizeof(dir), "%s/d", base);
    loop = loop_new(&err);
    return loop && mkdir(dir, 0700) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[600];
    local_directory_free(local);
    local = NULL;
    timer_cancel(loop, &deadline);
    loop_free(loop);
    text_fmt(command, sizeof(command), "rm -rf '%s'", base);
    assert_false(strstr(told, "hush"));
    return system(command);
}

static void test_start(void **state)
{
    (void)state;
    write_dest("b.json", "beta", "b.example");
    write_dest("a.JSON", "alpha", "a.example");
    write_file("README.md", "not ours");
    write_file(".hidden.json", "not ours");
    write_file(".#a.json", "not ours");
    write_file("#a.json#", "not ours");
    write_file("a.json~", "not ours");
    write_file(".a.json.swp", "not ours");
    start();
    expect("+beta b.example");
    assert_string_equal(told, "\n+alpha a.example\n+beta b.example\n.\n");
}

static void test_empty(void **state)
{
    (void)state;
    write_file("README.md", "no destination");
    assert_int_equal(mkdir(in_dir("sub"), 0700), 0);
    start();
    expect("!. holds no destination; put one here, as a file *.json");
    assert_false(was_told("README"));
    forget();
    write_dest("a.json", "alpha", "a.example");
    expect("+alpha a.example");
    assert_string_equal(told, "\n=.\n+alpha a.example\n.\n");
    forget();
    unlink(in_dir("a.json"));
    expect("-alpha");
    assert_true(was_told("!. holds no destination"));
}

static void test_changes(void **state)
{
    (void)state;
    write_dest("a.json", "alpha", "a.example");
    write_dest("b.json", "beta", "b.example");
    start();
    expect("+beta");

    forget();
    write_dest("a.json", "alpha", "a2.example"); /* in place */
    expect("+alpha a2.example");
    assert_false(was_told("beta"));

    forget();
    write_dest("x.tmp", "alpha", "a3.example"); /* renamed over */
    assert_int_equal(rename(in_dir("x.tmp"), in_dir("a.json")), 0);
    expect("+alpha a3.example");

    forget();
    write_dest("a.json", "gamma", "a3.example"); /* another name */
    expect("-alpha");
    assert_true(was_told("+gamma a3.example"));

    forget();
    /* The file's name does not matter. */
    assert_int_equal(rename(in_dir("a.json"), in_dir("c.json")), 0);
    expect(".");
    assert_string_equal(told, "\n.\n");

    forget();
    assert_int_equal(unlink(in_dir("c.json")), 0);
    expect("-gamma");
    forget();
    assert_int_equal(rename(in_dir("b.json"), in_dir("b.off")), 0);
    expect("-beta");
    assert_string_equal(
        told,
        "\n!. holds no destination; put one here, as a file *.json that the BTP cockpit exports\n"
        "-beta\n.\n");
}

/* Many changes in a short time are reported once; unchanged content is not reported. */
static void test_burst(void **state)
{
    (void)state;
    start();
    expect(".");
    forget();
    for (int i = 0; i < 100; i++) {
        char host[32];
        text_fmt(host, sizeof(host), "h%d.example", i);
        write_dest("a.json", "alpha", host);
    }
    expect("+alpha h99.example");
    assert_string_equal(told, "\n=.\n+alpha h99.example\n.\n");
    forget();
    write_dest("a.json", "alpha", "h99.example");
    expect(".");
    assert_string_equal(told, "\n.\n");
}

static void test_half_written(void **state)
{
    (void)state;
    write_dest("a.json", "alpha", "a.example");
    write_dest("b.json", "beta", "b.example");
    start();
    expect("+beta");

    forget();
    write_file("a.json", "{\"Name\": \"alpha\",\n \"Type\": ");
    expect("!a.json line 2, column ");
    assert_true(was_told("last good version stays in force"));
    assert_false(was_told("-alpha"));

    forget();
    write_file("a.json", "%s", "");
    expect("!a.json is empty");
    assert_true(was_told("last good version stays in force"));

    forget();
    write_dest("a.json", "alpha", "a.example");
    expect("=a.json");
    assert_string_equal(told, "\n=a.json\n.\n");

    forget();
    write_file("new.json", "{");
    expect("!new.json line 1");
    assert_false(was_told("last good"));
    forget();
    write_dest("new.json", "nu", "n.example");
    expect("+nu n.example");
    assert_true(was_told("=new.json"));
    assert_false(was_told("alpha"));
}

/* A destination that is read but cannot be used is removed; the others stay, and a correction
 * brings it back. */
static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"Type\": \"HTTP\"}", "Type: is \"HTTP\""},
        {"{\"Type\": \"MAIL\", \"ProxyType\": \"Internet\", \"Name\": \"x\","
         " \"mail.transport.protocol\": \"pop3\"}",
         "mail.pop3.host: is missing; give the name of the mail server "
         "(ConfigurationError-ReferencedDestination-UrlNotSupported)"},
        {"{\"Name\": [1]}", "Name: is an array"},
        {"[]", "is an array"},
        {"{\"apiVersion\": \"destination.connectivity.api.sap/v1\", \"kind\": \"Destination\"}",
         "metadata.name: is missing; give one"},
        {"{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"x\"}}",
         "kind: Pod is not supported; put a Destination, a TransparentProxy or a Secret"},
        {"{\"apiVersion\": \"destination.connectivity.api.sap/v1\", \"kind\": \"Destination\","
         " \"metadata\": {\"name\": \"x\"}, \"spec\": {}}",
         "Destination default/x: spec.destinationRef.name is missing"},
    };
    write_dest("a.json", "alpha", "a.example");
    write_dest("b.json", "beta", "b.example");
    start();
    expect("+beta");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char line[512];
        forget();
        write_file("a.json", "%s", cases[i].text);
        text_fmt(line, sizeof(line), "!a.json %s", cases[i].says);
        expect(line);
        assert_true(was_told("\n-alpha\n"));
        forget();
        write_dest("a.json", "alpha", "a.example");
        expect("+alpha a.example");
        assert_true(was_told("\n=a.json\n"));
        assert_false(was_told("beta"));
    }
    /* Local mode allows loopback. */
    forget();
    write_dest("a.json", "alpha", "localhost");
    expect("+alpha localhost");
}

static void test_duplicates(void **state)
{
    (void)state;
    write_dest("b.json", "same", "b.example");
    write_dest("c.json", "same", "c.example");
    start();
    expect("+same b.example");
    assert_true(was_told("!c.json Name: \"same\" is taken by the file b.json"));
    assert_false(was_told("c.example"));

    forget();
    write_dest("a.json", "same", "a.example"); /* the first file by name wins */
    expect("+same a.example");
    assert_true(was_told("!b.json Name: \"same\" is taken by the file a.json"));

    forget();
    unlink(in_dir("a.json"));
    unlink(in_dir("b.json"));
    expect("+same c.example");
    assert_true(was_told("=c.json"));
    assert_false(was_told("-same"));

    forget();
    write_dest("b.json", "other", "b.example");
    expect("+other b.example");
    assert_false(was_told("!"));
}

static void test_yaml(void **state)
{
    (void)state;
    char line[2048];
    write_file("cr.yaml", "apiVersion: v1\nkind: Destination\n");
    write_file("two.yml", "apiVersion: v1\n---\napiVersion: v1\n");
    write_file("list.yaml", "kind: List\napiVersion: v1\nitems:\n- apiVersion: v1\n");
    write_file("a b.yaml", "apiVersion: v1\n");
    write_file("plain.yaml", "Type: MAIL\nName: x\n");
    start();
    text_fmt(line, sizeof(line),
             "!cr.yaml is YAML, and only JSON is read; convert it with: kubectl patch --local "
             "--type=merge -p '{}' -o json -f %s/cr.yaml > %s/cr.json\n",
             dir, dir);
    expect("!two.yml is YAML, and only JSON is read; put each object into a file of its own, and "
           "convert each with: kubectl patch --local");
    assert_true(was_told("!list.yaml is YAML, and only JSON is read; put each object into"));
    assert_true(was_told("a b.yaml' > '"));
    assert_true(was_told("a b.json'\n"));
    assert_true(was_told("!plain.yaml is YAML, which is not read; export the destination from the "
                         "BTP cockpit as JSON\n"));
    expect("!cr.yaml");
    assert_true(was_told(line));
    forget();
    write_dest("cr.json", "x", "x.example");
    expect("+x x.example");
    assert_true(was_told("=cr.yaml"));
    forget();
    unlink(in_dir("cr.json"));
    expect("!cr.yaml");
    forget();
    unlink(in_dir("cr.yaml"));
    expect("=cr.yaml");
}

static void test_forms(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum local_form form;
    } rows[] = {
        {"mail.json", LOCAL_JSON},
        {"Mail.JSON", LOCAL_JSON},
        {"example-dest-pop3", LOCAL_PROPERTIES},
        {"mail.properties", LOCAL_PROPERTIES},
        {"mail.yaml", LOCAL_YAML},
        {"mail.yml", LOCAL_YAML},
        {"destinations.zip", LOCAL_ARCHIVE},
        {"mail.tar.gz", LOCAL_ARCHIVE},
        {"mail.txt", LOCAL_UNKNOWN},
        {"mail.json.txt", LOCAL_UNKNOWN},
        {"mail.xml", LOCAL_UNKNOWN},
        {"mail.example.com", LOCAL_UNKNOWN},
        {"mail.", LOCAL_UNKNOWN},
        {".json", LOCAL_PASSED_OVER},
        {".git", LOCAL_PASSED_OVER},
        {"..data", LOCAL_PASSED_OVER},
        {".mail.json.swp", LOCAL_PASSED_OVER},
        {"mail.json~", LOCAL_PASSED_OVER},
        {"mail~", LOCAL_PASSED_OVER},
        {"#mail.json#", LOCAL_PASSED_OVER},
        {"mail.json.bak", LOCAL_PASSED_OVER},
        {"mail.json.orig", LOCAL_PASSED_OVER},
        {"mail.json.off", LOCAL_PASSED_OVER},
        {"README", LOCAL_PASSED_OVER},
        {"Readme.txt", LOCAL_PASSED_OVER},
        {"LICENSE", LOCAL_PASSED_OVER},
        {"notes.md", LOCAL_PASSED_OVER},
        {"ca.pem", LOCAL_PASSED_OVER},
        {"readme-mail", LOCAL_PROPERTIES},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (local_file_form(rows[i].name) != rows[i].form) {
            fail_msg("%s", rows[i].name);
        }
    }
}

/* Writes a destination as a properties file. */
static void write_properties(const char *file, const char *target, const char *host)
{
    write_file(file,
               "#\n#Thu Mar 05 09:12:44 UTC 2026\nType=MAIL\nName=%s\nProxyType=Internet\n"
               "Authentication=BasicAuthentication\nmail.user=u\nmail.password=hush\\:\\=\n"
               "mail.transport.protocol=pop3\nmail.pop3.host=%s\n",
               target, host);
}

static void test_properties(void **state)
{
    (void)state;
    write_properties("alpha", "alpha", "a.example");
    write_properties("b.properties", "beta", "b.example");
    start();
    expect("+beta b.example");
    assert_string_equal(told, "\n+alpha a.example\n+beta b.example\n.\n");

    /* A properties file may be half written and end anywhere. */
    static const char *const parts[] = {"Type=MA", "Type=MAIL\nName=alpha\nProxyType=Inter", "#\n",
                                        "Type=MAIL\nName=\\u00"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        forget();
        write_file("alpha", "%s", parts[i]);
        expect("!alpha ");
        assert_true(was_told("; the last good version stays in force\n"));
        assert_false(was_told("-alpha"));
    }
    forget();
    write_properties("alpha", "alpha", "a2.example");
    expect("+alpha a2.example");
    assert_true(was_told("=alpha\n"));

    /* The same file may become JSON and define another destination. */
    forget();
    write_dest("alpha", "alpha", "a3.example");
    expect("+alpha a3.example");
    forget();
    write_properties("alpha", "gamma", "g.example");
    expect("+gamma g.example");
    assert_true(was_told("-alpha\n"));

    forget();
    write_dest("b.json", "beta", "other.example");
    write_dest("z", "beta", "other.example");
    expect("!z Name: \"beta\" is taken by the file b.json; give it another name\n");
    assert_true(was_told("!b.properties Name: \"beta\" is taken by the file b.json"));

    forget();
    unlink(in_dir("alpha"));
    expect("-gamma");
}

static void test_files_that_are_not_read(void **state)
{
    (void)state;
    static const char *const quiet[] = {"README", "mail.json.bak", "mail~", "ca.pem"};
    write_dest("ok.json", "ok", "ok.example");
    write_file("mail.json.txt", "{}");
    write_file("mail.txt", "Name=x");
    write_file("all.zip", "PK");
    write_file("notes", "buy milk\n");
    write_file("u.yaml", "%s", "\xFF\xFEN");
    write_file(
        "exported",
        "Type=MAIL\nName=e\nmail.password=<< Existing password/certificate removed on export "
        ">>\n");
    write_file("unicode", "%s", "\xFF\xFEN");
    write_file("unicode.json", "%s", "\xFF\xFE{");
    for (size_t i = 0; i < ARRAY_LEN(quiet); i++) {
        write_file(quiet[i], "{");
    }
    assert_int_equal(mkdir(in_dir("sub"), 0700), 0);
    assert_int_equal(symlink("sub", in_dir("link")), 0);
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    start();
    expect("+ok ok.example");
    assert_true(was_told("!mail.json.txt is not read; rename it to mail.json\n"));
    assert_true(
        was_told("!mail.txt is not read; if it is a destination, rename it: to mail.json if "
                 "it holds JSON, to mail.properties if it has lines Name=...\n"));
    assert_true(was_told("!all.zip is an archive, which is not read; unpack it here\n"));
    assert_true(was_told("!notes is neither JSON nor a properties file"));
    assert_true(was_told("!u.yaml is UTF-16: save it as UTF-8\n"));
    assert_true(
        was_told("!exported mail.password: the BTP cockpit leaves this value out of an export; "
                 "add it\n"));
    assert_true(was_told("!unicode is UTF-16: save it as UTF-8\n"));
    assert_true(was_told("!unicode.json is UTF-16: save it as UTF-8\n"));
    for (size_t i = 0; i < ARRAY_LEN(quiet); i++) {
        char line[64];
        text_fmt(line, sizeof(line), "!%s ", quiet[i]);
        assert_false(was_told(line));
    }
    assert_false(was_told("!sub") || was_told("!link") || was_told("!fifo"));
    forget();
    write_dest("mail.json", "mail", "m.example");
    expect("+mail m.example");
    assert_string_equal(told, "\n+mail m.example\n.\n"); /* each target is reported once */
}

static void test_odd_files(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_dir("dir.json"), 0700), 0);
    assert_int_equal(mkfifo(in_dir("fifo.json"), 0600), 0);
    assert_int_equal(symlink("nowhere", in_dir("link.json")), 0);
    write_dest("ok.json", "ok", "ok.example");
    FILE *f = fopen(in_dir("big.json"), "w");
    assert_non_null(f);
    for (int i = 0; i < LOCAL_FILE_SIZE_MAX; i++) {
        putc(' ', f);
    }
    fclose(f);
    start();
    expect("+ok ok.example");
    assert_true(was_told("!dir.json is not a regular file\n"));
    assert_true(was_told("!fifo.json is not a regular file\n"));
    assert_true(was_told("!link.json cannot be opened: "));
    assert_true(was_told("!big.json line 1, column "));
    forget();
    f = fopen(in_dir("big.json"), "a");
    assert_non_null(f);
    putc(' ', f);
    fclose(f);
    expect("!big.json is larger than 1048576 bytes");

    if (geteuid() != 0) { /* root may read everything */
        forget();
        assert_int_equal(chmod(in_dir("ok.json"), 0), 0);
        expect("!ok.json cannot be opened: Permission denied; the last good version stays");
        forget();
        assert_int_equal(chmod(in_dir("ok.json"), 0600), 0);
        expect("=ok.json");
    }
}

/* In a Kubernetes mount the files are links through ..data, which is replaced. */
static void test_mounted(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_dir("..1"), 0700), 0);
    assert_int_equal(mkdir(in_dir("..2"), 0700), 0);
    write_dest("..1/a.json", "alpha", "a1.example");
    write_dest("..1/b.json", "beta", "b.example");
    write_dest("..2/a.json", "alpha", "a2.example");
    write_dest("..2/b.json", "beta", "b.example");
    assert_int_equal(symlink("..1", in_dir("..data")), 0);
    assert_int_equal(symlink("..data/a.json", in_dir("a.json")), 0);
    assert_int_equal(symlink("..data/b.json", in_dir("b.json")), 0);
    start();
    expect("+beta b.example");
    assert_true(was_told("+alpha a1.example"));
    forget();
    assert_int_equal(symlink("..2", in_dir("..data_tmp")), 0);
    assert_int_equal(rename(in_dir("..data_tmp"), in_dir("..data")), 0);
    expect("+alpha a2.example");
    assert_false(was_told("beta"));
}

static void test_directory_comes_back(void **state)
{
    (void)state;
    char aside[600];
    write_dest("a.json", "alpha", "a.example");
    start();
    expect("+alpha");

    forget();
    unlink(in_dir("a.json"));
    assert_int_equal(rmdir(dir), 0);
    expect("-alpha");
    if (!was_told("!. the directory cannot be read")) {
        expect("!. the directory cannot be read");
    }
    forget();
    assert_int_equal(mkdir(dir, 0700), 0);
    write_dest("a.json", "alpha", "a2.example");
    expect("+alpha a2.example");
    assert_true(was_told("=."));

    forget();
    text_fmt(aside, sizeof(aside), "%s/aside", base);
    assert_int_equal(rename(dir, aside), 0);
    expect("-alpha");
    forget();
    assert_int_equal(rename(aside, dir), 0);
    expect("+alpha a2.example");
    forget();
    write_dest("b.json", "beta", "b.example");
    expect("+beta b.example");
}

static void test_too_many(void **state)
{
    (void)state;
    char name[32];
    for (int i = 0; i < LOCAL_FILES_MAX + 1; i++) {
        text_fmt(name, sizeof(name), "%d.json", i);
        write_file(name, "x");
    }
    start();
    expect("!. holds more than 1024 files");
    forget();
    unlink(in_dir("0.json"));
    unlink(in_dir("1.json"));
    expect("=.");
}

/* Files that are not read do not use up the places of those that are. */
static void test_too_many_others(void **state)
{
    (void)state;
    char name[32];
    for (int i = 0; i < LOCAL_OTHERS_MAX + 1; i++) {
        text_fmt(name, sizeof(name), "%d.txt", i);
        write_file(name, "x");
    }
    start();
    expect("!. holds more than 64 files that are not read; the others are not named");
    forget();
    write_dest("a.json", "alpha", "a.example");
    expect("+alpha a.example");
    forget();
    unlink(in_dir("0.txt"));
    unlink(in_dir("1.txt"));
    expect("=.");
}

static void test_no_directory(void **state)
{
    (void)state;
    struct error err;
    write_file("file", "x");
    assert_null(local_directory_new(loop, in_dir("absent"), handler, &err));
    assert_int_equal(err.fail, FAIL_CONFIG);
    assert_non_null(strstr(err.text, "absent: cannot be watched: No such file or directory"));
    assert_null(local_directory_new(loop, in_dir("file"), handler, &err));
    assert_non_null(strstr(err.text, "Not a directory"));
}

/* ---- as a source ---- */

static int answers;
static char answer[512];
static enum verdict verdict;

static void on_found(const struct dest_answer *found, void *arg)
{
    assert_ptr_equal(arg, &answers);
    answers++;
    text_fmt(answer, sizeof(answer), "%s", found->dest ? found->dest->host : found->err.text);
    verdict = found->verdict;
    assert_int_equal(found->dest != NULL, verdict == VERDICT_OK);
}

static struct dest_request *ask(const char *name)
{
    const struct dest_handler on = {.done = on_found, .arg = &answers};
    return dest_find(local_directory_source(local), &(struct dest_ref){.name = name},
                     DEST_TO_LOG_IN, NULL, on);
}

static void test_source(void **state)
{
    (void)state;
    write_dest("a.json", "alpha", "a.example");
    write_dest("b.json", "beta", "b.example");
    start();
    expect("+beta");

    struct dest_source *source = local_directory_source(local);
    char key[16] = "alpha";
    answers = 0;
    assert_non_null(ask(key));
    key[0] = 'x';
    assert_int_equal(answers, 0);
    loop_turn(loop, false);
    assert_int_equal(answers, 1);
    assert_string_equal(answer, "a.example");

    assert_non_null(ask("gamma"));
    loop_turn(loop, false);
    assert_int_equal(answers, 2);
    assert_non_null(strstr(answer, "describes the destination gamma"));
    assert_int_equal(verdict, VERDICT_NOT_FOUND);

    struct dest_request *one = ask("alpha");
    struct dest_request *two = ask("beta");
    dest_cancel(source, one);
    dest_cancel(source, NULL);
    loop_turn(loop, false);
    assert_int_equal(answers, 3);
    assert_string_equal(answer, "b.example");
    assert_non_null(two);
}

/* A CR may name a destination with more octets than a destination's name may have. */
static void test_source_long_name(void **state)
{
    char name[DESTINATION_NAME_MAX + 2];
    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[DESTINATION_NAME_MAX] = '\0';
    write_dest("a.json", name, "a.example");
    start();
    expect("+n");
    assert_non_null(ask(name));
    loop_turn(loop, false);
    assert_string_equal(answer, "a.example");

    name[DESTINATION_NAME_MAX] = 'n';
    name[DESTINATION_NAME_MAX + 1] = '\0';
    assert_non_null(ask(name));
    loop_turn(loop, false);
    assert_non_null(strstr(answer, "describes the destination nnn"));
}

/* ---- beside a service ---- */

/* A service that has no destination itself, and answers for all of them. */
static struct {
    struct dest_source face;
    enum verdict says;
    int asked;
} service;

struct dest_request {
    struct task task;
    struct dest_handler handler;
};

static void on_service_due(struct task *t)
{
    struct dest_request *request = container_of(t, struct dest_request, task);
    struct dest_handler on = request->handler;
    struct dest_answer says = {.verdict = service.says};
    error_set(&says.err, FAIL_REMOTE, "the service says so");
    free(request);
    on.done(&says, on.arg);
}

static struct dest_request *service_find(struct dest_source *source, const struct dest_ref *ref,
                                         enum dest_purpose purpose, const struct dest_user *user,
                                         struct dest_handler on)
{
    struct dest_request *request = mem_zalloc(sizeof(*request));
    (void)ref;
    (void)purpose;
    (void)user;
    assert_ptr_equal(source, &service.face);
    service.asked++;
    request->handler = on;
    task_init(&request->task);
    loop_soon(loop, &request->task, on_service_due);
    return request;
}

/* Asks for a destination of the instance "i", and waits for the answer. */
static void ask_ref(struct dest_ref ref)
{
    const struct dest_handler on = {.done = on_found, .arg = &answers};
    int before = answers;
    dest_find(local_directory_source(local), &ref, DEST_TO_CHECK, NULL, on);
    while (answers == before) {
        loop_turn(loop, false);
    }
}

static void start_beside_service(enum verdict says)
{
    service.face.find = service_find;
    service.says = says;
    service.asked = 0;
    start();
    local_directory_set_service(local, &service.face);
}

static void test_service(void **state)
{
    (void)state;
    write_dest("a.json", "alpha", "127.0.0.1");
    start_beside_service(VERDICT_NOT_FOUND);
    expect("+alpha");
    ask_ref((struct dest_ref){.name = "alpha", .instance = "i"});
    assert_string_equal(answer, "127.0.0.1");
    ask_ref((struct dest_ref){.name = "beta"});
    assert_non_null(strstr(answer, "describes the destination beta"));
    assert_int_equal(service.asked, 0);
    ask_ref((struct dest_ref){.name = "beta", .instance = "i"});
    assert_string_equal(answer, "the service says so");
    assert_int_equal(service.asked, 1);
}

static char verdicts[256];

static void list_verdict(const struct local_report *report, void *arg)
{
    size_t n = strlen(verdicts);
    (void)arg;
    text_fmt(verdicts + n, sizeof(verdicts) - n, "%s ", verdict_reason(report->verdict, false));
}

/* What only a server knows is in the files, good or not. */
static void test_standing_in(void **state)
{
    (void)state;
    write_dest("a.json", "alpha", "a.example");
    write_dest("b.json", "beta", "127.0.0.1");
    write_file("d.properties",
               "Name=delta\nType=MAIL\nProxyType=Internet\nmail.user=u\nmail.pop3.host=d.example\n"
               "mail.password=<< Existing password/certificate removed >>\n");
    write_file("e.properties", "Name=epsilon\nType=HTTP\nURL=https://e.example\n");
    write_file("f.json", "{\"Name\": \"phi\"");
    start_beside_service(VERDICT_UNREADABLE);
    local_directory_stand_in(local);
    expect("+alpha");

    ask_ref((struct dest_ref){.name = "alpha", .instance = "i"});
    assert_string_equal(answer, "a.example");
    ask_ref((struct dest_ref){.name = "alpha"}); /* it is the service that knows the instances */
    assert_int_equal(service.asked, 2);
    ask_ref((struct dest_ref){.name = "beta", .instance = "i"});
    assert_int_equal(verdict, VERDICT_LOOPBACK_URL_NOT_SUPPORTED);
    assert_non_null(strstr(answer, "mail.pop3.host: "));
    ask_ref((struct dest_ref){.name = "delta", .instance = "i"});
    assert_string_equal(answer, "d.example");
    ask_ref((struct dest_ref){.name = "epsilon", .instance = "i"});
    assert_int_equal(verdict, VERDICT_TYPE_NOT_SUPPORTED);
    assert_int_equal(service.asked, 5);

    const struct dest_ref open[] = {{.name = "phi", .instance = "i"},
                                    {.name = "nobody", .instance = "i"},
                                    {.name = "alpha", .instance = "i", .fragment = "f"},
                                    {.name = "beta", .instance = "i", .fragment = "f"},
                                    {.name = "alpha", .instance = "i", .chain = "c"}};
    for (size_t i = 0; i < ARRAY_LEN(open); i++) {
        ask_ref(open[i]);
        assert_int_equal(verdict, VERDICT_UNREADABLE);
    }
    service.says = VERDICT_INSTANCE_NOT_CONFIGURED;
    ask_ref((struct dest_ref){.name = "alpha", .instance = "i"});
    assert_int_equal(verdict, VERDICT_INSTANCE_NOT_CONFIGURED);
    ask_ref((struct dest_ref){.name = "beta", .instance = "i"});
    assert_int_equal(verdict, VERDICT_INSTANCE_NOT_CONFIGURED);

    verdicts[0] = '\0';
    local_directory_each(local, list_verdict, NULL);
    assert_string_equal(verdicts,
                        "ConfigurationSuccessful "
                        "ConfigurationError-ReferencedDestination-LoopbackUrlNotSupported "
                        "ConfigurationSuccessful "
                        "ConfigurationError-ReferencedDestination-TypeNotSupported "
                        "ConfigurationSuccessful ");
}

/* A refusal is about the last thing that a file has had. */
static void test_standing_in_for_a_while(void **state)
{
    (void)state;
    write_dest("a.json", "alpha", "127.0.0.1");
    start_beside_service(VERDICT_UNREADABLE);
    local_directory_stand_in(local);
    expect("!a.json mail.pop3.host: ");
    ask_ref((struct dest_ref){.name = "alpha", .instance = "i"});
    assert_int_equal(verdict, VERDICT_LOOPBACK_URL_NOT_SUPPORTED);
    forget();
    write_dest("a.json", "alpha", "a.example");
    expect("+alpha a.example");
    ask_ref((struct dest_ref){.name = "alpha", .instance = "i"});
    assert_string_equal(answer, "a.example");
    forget();
    write_file("a.json", "{}");
    expect("-alpha");
    ask_ref((struct dest_ref){.name = "alpha", .instance = "i"});
    assert_int_equal(verdict, VERDICT_UNREADABLE);
}

#define SECRET                                                                                     \
    "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"key\"%s},"          \
    " \"stringData\": {\"clientsecret\": \"%s\"}}"

/* Objects of each kind, beside destinations; members that a file leaves out are added. */
static void test_objects(void **state)
{
    (void)state;
    write_dest("a.json", "alpha", "a.example");
    write_file(
        "cr.json",
        "{\"apiVersion\": \"destination.connectivity.api.sap/v1\", \"kind\": \"Destination\","
        " \"metadata\": {\"name\": \"mail\", \"annotations\": {\"tproxy/adopt\": \"true\"}},"
        " \"spec\": {\"destinationRef\": {\"name\": \"alpha\"}}}");
    write_file("key.json", SECRET, "", "hush");
    start();
    expect("+alpha a.example");
    assert_true(was_told("\n+Destination default/mail\n"));
    assert_true(was_told("\n+Secret sap-transp-proxy-system/key\n"));
    assert_false(was_told("!"));

    /* The same content, written differently, is not a change. */
    forget();
    write_file("key.json", SECRET "\n\n", "", "hush");
    write_dest("b.json", "beta", "b.example");
    expect("+beta b.example");
    assert_false(was_told("Secret"));

    forget();
    write_file("key.json", SECRET, ", \"namespace\": \"other\"", "hush again");
    expect("-Secret sap-transp-proxy-system/key");
    assert_true(was_told("\n+Secret other/key\n"));

    forget();
    write_file("key2.json", SECRET, ", \"namespace\": \"other\"", "hush");
    expect("!key2.json metadata.name: \"key\" is taken by the file key.json");

    forget();
    assert_int_equal(unlink(in_dir("key.json")), 0);
    expect("+Secret other/key");
    assert_true(was_told("\n=key2.json\n"));
}

static char listed[2048];

static void list(const struct local_report *report, void *arg)
{
    size_t n = strlen(listed);
    assert_ptr_equal(arg, listed);
    text_fmt(listed + n, sizeof(listed) - n, "%s%s%s%s ", short_path(report->path),
             report->complaint ? "!" : "", report->dest ? "=" : "",
             report->dest     ? report->dest->name
             : report->object ? report->object->kind
                              : "");
}

static void expect_list(const char *wanted)
{
    listed[0] = '\0';
    local_directory_each(local, list, listed);
    assert_string_equal(listed, wanted);
}

static void test_each(void **state)
{
    (void)state;
    start();
    expect("!. holds no destination");
    expect_list(".! ");
    write_dest("a.json", "same", "a.example");
    write_dest("b.json", "same", "b.example");
    write_file("c.json", SECRET, "", "hush");
    write_file("d.json", "[");
    expect("+Secret");
    expect_list("a.json=same b.json!=same c.jsonSecret d.json! ");
}

/* Files by their paths: read once, in any order, with the same complaints. */
static void test_paths(void **state)
{
    (void)state;
    struct error err;
    char *paths[] = {mem_strdup(in_dir("b.json")), mem_strdup(in_dir("a.json")),
                     mem_strdup(in_dir("README")), mem_strdup(in_dir("gone.json")),
                     mem_strdup(in_dir("a.json")), mem_strdup(in_dir("c.json.txt"))};
    write_dest("a.json", "same", "a.example");
    write_dest("b.json", "same", "b.example");
    write_file("README", "hush\n");
    write_file("c.json.txt", "hush\n");
    forget();
    local = local_directory_of(loop, paths, ARRAY_LEN(paths), handler, &err);
    expect("+same a.example");
    assert_true(was_told("!b.json Name: \"same\" is taken by the file "));
    assert_true(was_told("!gone.json cannot be opened: No such file"));
    assert_true(was_told("!c.json.txt is not read; rename it to c.json\n"));
    expect_list("README a.json=same b.json!=same c.json.txt! gone.json! ");
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        free(paths[i]);
    }
}

static void test_too_many_paths(void **state)
{
    (void)state;
    struct error err;
    static char *paths[LOCAL_FILES_MAX + 1];
    assert_null(local_directory_of(loop, paths, ARRAY_LEN(paths), handler, &err));
    assert_int_equal(err.fail, FAIL_LIMIT);
    assert_string_equal(err.text, "1025 files are more than 1024");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_start, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_burst, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_duplicates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_yaml, setup, teardown),
        cmocka_unit_test(test_forms),
        cmocka_unit_test_setup_teardown(test_properties, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_that_are_not_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_odd_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mounted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directory_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_source, setup, teardown),
        cmocka_unit_test_setup_teardown(test_source_long_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_service, setup, teardown),
        cmocka_unit_test_setup_teardown(test_standing_in, setup, teardown),
        cmocka_unit_test_setup_teardown(test_standing_in_for_a_while, setup, teardown),
        cmocka_unit_test_setup_teardown(test_objects, setup, teardown),
        cmocka_unit_test_setup_teardown(test_each, setup, teardown),
        cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_paths, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Feeds a fuzz target every file of its corpus, tests/fuzz/corpus/<name>, and reports each in TAP.
 * The name is that of the program without fuzz_. Run it from the top of the tree. The empty input
 * comes first. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Reads the whole file into memory of exactly its size, so that the sanitizer finds a read beyond
 * its end. */
static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        exit(1);
    }
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*size ? *size : 1);
    if (!data || fread(data, 1, *size, file) != *size) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return data;
}

int main(int argc, char **argv)
{
    char directory[512], path[1024];
    struct dirent **entries;
    const char *name = strstr(argv[0], "/fuzz_");
    if (argc != 1 || !name) {
        fprintf(stderr, "replay: takes no arguments; its name is fuzz_<name>\n");
        return 2;
    }
    for (const char *next = name; next; next = strstr(next + 1, "/fuzz_")) {
        name = next;
    }
    snprintf(directory, sizeof(directory), "tests/fuzz/corpus/%s", name + strlen("/fuzz_"));
    int count = scandir(directory, &entries, visible, alphasort);
    if (count < 0) {
        perror(directory);
        return 2;
    }
    printf("1..%d\n", count + 1);
    fflush(stdout);
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    printf("ok 1 - empty\n");
    for (int i = 0; i < count; i++) {
        size_t size;
        snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
        uint8_t *data = read_file(path, &size);
        fflush(stdout);
        LLVMFuzzerTestOneInput(data, size);
        printf("ok %d - %s\n", i + 2, path);
        free(data);
        free(entries[i]);
    }
    free(entries);
    return 0;
}

/* Stands in for libFuzzer in ordinary builds: runs the fuzz target over every file of the folders and files named. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replayed;

static void replay_file(const char *path)
{
        FILE *f = fopen(path, "rb");
        if (!f) {
                perror(path);
                exit(1);
        }
        fseek(f, 0, SEEK_END);
        long size = ftell(f);
        rewind(f);
        uint8_t *data = malloc(size > 0 ? (size_t)size : 1); /* exact, so that a sanitizer sees a read past the end */
        if (!data || fread(data, 1, (size_t)size, f) != (size_t)size)
                exit(1);
        fclose(f);
        LLVMFuzzerTestOneInput(data, (size_t)size);
        free(data);
        replayed++;
}

static void replay(const char *path)
{
        struct stat st;
        if (stat(path, &st) < 0)
                return;
        if (!S_ISDIR(st.st_mode)) {
                replay_file(path);
                return;
        }
        DIR *dir = opendir(path);
        for (struct dirent *e; dir && (e = readdir(dir));) {
                char name[4096];
                if (e->d_name[0] == '.')
                        continue;
                snprintf(name, sizeof name, "%s/%s", path, e->d_name);
                replay(name);
        }
        if (dir)
                closedir(dir);
}

int main(int argc, char **argv)
{
        LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
        for (int i = 1; i < argc; i++)
                replay(argv[i]);
        printf("replayed %u inputs\n", replayed);
        return 0;
}

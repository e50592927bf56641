/*
 * How: open() goes down the list of section 3 of the design: reference, source, manifest, an index for each layer (from the
 * store, or by a scan), the tree. What it needs on the way lives in struct image from the start, so that image_close() undoes
 * any half-way state.
 *
 * A name that was seen before is remembered with the digest that it had: that is what a HEAD request compares with, and what
 * stands in when the registry cannot be reached.
 */
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "image/files_tar.h"
#include "image/notes.h"
#include "image/idle.h"
#include "layer/scan.h"
#include "source/http.h"
#include "source/layout.h"
#include "source/reference.h"
#include "source/registries.h"

enum { AHEAD_THREADS_MAX = 4, AHEAD_QUEUE = 64, SCANS_MAX = 8, NAME_TEXT_MAX = 4096 };

struct image {
        struct reference reference;
        char *name;
        struct store *store;
        struct source *source;
        struct source *registry; /* the same when it is one: for its counters */
        struct manifest manifest;
        struct blob **blobs; /* per layer */
        struct layer **layers;
        struct pool *ahead;
        struct span_cache *cache;
        struct idle *idle;
        struct tree *tree;
        bool offline; /* --offline, and the image is not a local one: no registry is asked, neither now nor for reads */
        _Atomic uint64_t errors;
};

/* ---- where it comes from ---- */

static int open_archive(struct image *im, struct error *err)
{
        cleanup(blob_unrefp) struct blob *file = NULL;
        struct files *files = NULL;
        const char *what = im->reference.file;
        int r = blob_open_file(AT_FDCWD, what, &file, err);
        if (r < 0)
                return r;
        r = files_open_tar(file, &files, err);
        if (r < 0)
                return error_wrap(err, r, "%s", what);
        r = source_open_files(files, &im->reference, what, &im->source, err);
        if (r == -ENODATA)
                r = rootfs_open(file, what, &im->source, err);
        return r;
}

static int open_source(struct image *im, const struct image_options *options, struct error *err)
{
        struct files *files = NULL;
        int r;
        switch (im->reference.transport) {
        case REFERENCE_REGISTRY: {
                struct http_options http = options->registry.http ? *options->registry.http : (struct http_options){0};
                struct registry_options registry = options->registry;
                registry.http = &http;
                http.cancel = options->progress ? &options->progress->cancel : NULL;
                r = registry_open(&im->reference, &registry, &im->source, err);
                im->registry = r == 0 ? im->source : NULL;
                return r;
        }
        case REFERENCE_OCI:
                r = files_open_dir(im->reference.file, &files, err);
                return r < 0 ? r : source_open_files(files, &im->reference, im->reference.file, &im->source, err);
        default: return open_archive(im, err);
        }
}

/* ---- which manifest ---- */

/* a file of the store: "DIGEST SECONDS" */
static void get_known(struct image *im, struct digest *known, time_t *seen)
{
        struct buf text;
        buf_init(&text, NAME_TEXT_MAX);
        *known = (struct digest){0};
        *seen = 0;
        if (store_get_name(im->store, im->name, &text, NULL) == 0) {
                const char *s = buf_str(&text);
                size_t len = strcspn(s, " \n");
                if (digest_parse(s, len, known) < 0)
                        *known = (struct digest){0};
                *seen = s[len] == ' ' ? (time_t)strtoll(s + len + 1, NULL, 10) : 0;
        }
        buf_done(&text);
}

static void put_known(struct image *im, const struct digest *top)
{
        char text[DIGEST_MAX_TEXT + 32], digest[DIGEST_MAX_TEXT];
        struct error err;
        int len = snprintf(text, sizeof text, "%s %lld\n", digest_format(top, digest), (long long)time(NULL));
        if (store_put_name(im->store, im->name, text, (size_t)len, &err) < 0)
                log_debug(LOG_CACHE, "%s", err.msg);
}

static bool network_error(int r)
{
        return r == -ETIMEDOUT || r == -ENETUNREACH || r == -ECONNREFUSED || r == -EHOSTUNREACH || r == -ECONNRESET;
}

static int load_manifest(struct image *im, const struct image_options *options, struct error *err)
{
        struct manifest_request rq = {
                .source = im->source,
                .store = im->store,
                .want = im->reference.digest,
                .offline = options->offline && !im->source->local,
        };
        if (options->platform) {
                int r = platform_parse(options->platform, &rq.platform, err);
                if (r < 0)
                        return r;
        } else {
                platform_host(&rq.platform);
        }
        time_t seen = 0;
        if (!im->source->local)
                get_known(im, &rq.known, &seen);
        struct digest top;
        int r = manifest_load(&rq, &im->manifest, &top, err);
        if (network_error(r) && rq.known.alg && !rq.offline) {
                struct error stored;
                rq.offline = true;
                if (manifest_load(&rq, &im->manifest, &top, &stored) == 0) {
                        char when[64];
                        struct tm tm;
                        if (!localtime_r(&seen, &tm) || !strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm))
                                strcpy(when, "an unknown day"); /* the store's files may say anything */
                        log_warning(
                                "%s (used instead: what the name meant on %s)", err ? err->msg : "no network", when);
                        r = 0;
                }
        } else if (r == 0 && !im->source->local && !rq.offline) {
                put_known(im, &top);
        }
        im->offline = options->offline && !im->source->local;
        if (r == 0 && im->manifest.foreign) {
                char have[100], want[100];
                log_warning("the image is for %s, this is %s: its programs may not run here",
                        platform_format(&im->manifest.platform, have), platform_format(&rq.platform, want));
        }
        return r;
}

/* ---- the layers ---- */

/* 1: *ret_index is it; 0: there is none; negative: a failure that scanning would not mend */
static int stored_index(struct image *im, const struct image_layer *il, struct index **ret_index, struct error *err)
{
        if (!il->descriptor.digest.alg)
                return 0;
        int fd = store_open_index(im->store, &il->descriptor.digest, NULL);
        if (fd < 0)
                return 0;
        struct error damage;
        int r = index_open_fd(fd, &il->descriptor.digest, ret_index, &damage);
        char text[DIGEST_MAX_TEXT];
        if (r == -EOPNOTSUPP || r == -ENOMEM) {
                return error_set(err, r, "layer %s: %s", digest_format(&il->descriptor.digest, text), damage.msg);
        } else if (r < 0) {
                log_warning("layer %s: %s; it is made again", digest_format(&il->descriptor.digest, text), damage.msg);
                store_set_aside(im->store, STORE_INDEX, &il->descriptor.digest);
                return 0;
        }
        const struct index_info *info = index_info(*ret_index);
        if (info->blob_size != il->descriptor.size || (il->diff_id.alg && info->diff_id.alg == il->diff_id.alg &&
                                                              !digest_equal(&info->diff_id, &il->diff_id))) {
                index_free(*ret_index);
                *ret_index = NULL;
                return error_set(err, -EBADMSG,
                        "layer %s: size or diff ID are not what the manifest and the config say",
                        digest_format(&il->descriptor.digest, text));
        }
        return 1;
}

/* one scan of several that run side by side */
struct scan_job {
        struct image *im;
        struct image_progress *progress;
        struct scan_progress scan;
        size_t layer;
        struct index *index;
        int code;
        struct error error;
        struct scan_job *all; /* the array that it is in, and how many these are */
        size_t count;
        atomic_bool done;
};

static void run_scan(void *arg)
{
        struct scan_job *job = arg;
        const struct image_layer *il = &job->im->manifest.layers[job->layer];
        struct scan_request rq = {
                .blob = job->im->blobs[job->layer],
                .digest = il->descriptor.digest,
                .diff_id = il->diff_id,
                .store = job->im->store,
                .progress = &job->scan,
        };
        job->code = scan_layer(&rq, &job->index, &job->error);
        char text[DIGEST_MAX_TEXT];
        if (job->code < 0)
                error_wrap(&job->error, job->code, "layer %zu (%s)", job->layer + 1, digest_format(&rq.digest, text));
        if (job->code < 0) /* the others need not go on */
                for (size_t i = 0; i < job->count; i++)
                        atomic_store(&job->all[i].scan.cancel, true);
        atomic_store(&job->done, true);
}

static int by_size(const void *a, const void *b)
{
        const struct scan_job *x = a, *y = b;
        uint64_t x_size = x->im->manifest.layers[x->layer].descriptor.size;
        uint64_t y_size = y->im->manifest.layers[y->layer].descriptor.size;
        return x_size < y_size ? 1 : x_size > y_size ? -1 : x->layer < y->layer ? -1 : x->layer > y->layer;
}

/* sums up for whoever shows progress, passes a cancel on; until all are done */
static void watch_scans(struct scan_job *jobs, size_t count, struct image_progress *progress)
{
        for (bool all_done = false; !all_done;) {
                uint64_t done = 0;
                unsigned finished = 0;
                for (size_t i = 0; i < count; i++) {
                        done += atomic_load(&jobs[i].scan.done);
                        finished += atomic_load(&jobs[i].done);
                        if (progress && atomic_load(&progress->cancel))
                                atomic_store(&jobs[i].scan.cancel, true);
                }
                if (progress) {
                        atomic_store(&progress->done, done);
                        atomic_store(&progress->layers_done, finished);
                }
                all_done = finished == count;
                if (!all_done)
                        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        }
}

/* the failure that a person should see: not the cancelling that it caused */
static int first_failure(const struct scan_job *jobs, size_t count, struct error *err)
{
        const struct scan_job *worst = NULL;
        for (size_t i = 0; i < count; i++)
                if (jobs[i].code < 0 && (!worst || (worst->code == -ECANCELED && jobs[i].code != -ECANCELED)))
                        worst = &jobs[i];
        if (!worst)
                return 0;
        if (err)
                *err = worst->error;
        return worst->code;
}

static int scan_missing(
        struct image *im, struct scan_job *jobs, size_t count, struct image_progress *progress, struct error *err)
{
        if (!count)
                return 0;
        qsort(jobs, count, sizeof *jobs, by_size);
        uint64_t total = 0;
        for (size_t i = 0; i < count; i++) {
                jobs[i].all = jobs;
                jobs[i].count = count;
                jobs[i].progress = progress;
                total += im->manifest.layers[jobs[i].layer].descriptor.size;
        }
        if (progress) {
                atomic_store(&progress->total, total);
                atomic_store(&progress->layers, (unsigned)count);
        }
        unsigned threads = MIN(pool_cpus() * 2, (unsigned)SCANS_MAX);
        threads = MIN(threads, (unsigned)count);
        cleanup(pool_freep) struct pool *pool = pool_new(threads, count);
        if (!pool)
                return error_nomem(err);
        for (size_t i = 0; i < count; i++)
                pool_run(pool, run_scan, &jobs[i]);
        watch_scans(jobs, count, progress);
        return first_failure(jobs, count, err);
}

static size_t first_twin(const struct image *im, size_t layer)
{
        const struct digest *d = &im->manifest.layers[layer].descriptor.digest;
        for (size_t i = 0; i < layer && d->alg; i++)
                if (digest_equal(&im->manifest.layers[i].descriptor.digest, d))
                        return i;
        return layer;
}

/* stands for a blob that may not be asked for: what the store has is read, the rest cannot be had */
static int absent_read(struct blob *b, void *data, size_t len, uint64_t off, struct error *err)
{
        (void)b, (void)data, (void)len, (void)off;
        return error_set(err, -ENOENT, "not all of it is in the store, and the registry is not asked (offline)");
}

static void absent_free(struct blob *b)
{
        free(b);
}

static int new_absent(uint64_t size, struct blob **ret_blob, struct error *err)
{
        static const struct blob_ops ops = {.read = absent_read, .free = absent_free};
        struct blob *b = calloc(1, sizeof *b);
        if (!b)
                return error_nomem(err);
        blob_init(b, &ops, size);
        *ret_blob = b;
        return 0;
}

/* of two layers of one digest: do manifest and config say the same of both? */
static bool same_content(const struct image_layer *a, const struct image_layer *b)
{
        return a->descriptor.size == b->descriptor.size && digest_equal(&a->diff_id, &b->diff_id);
}

static int find_indexes(
        struct image *im, struct index **indexes, struct scan_job *jobs, size_t *ret_jobs, struct error *err)
{
        size_t count = 0;
        for (size_t i = 0; i < im->manifest.layer_count; i++) {
                const struct image_layer *il = &im->manifest.layers[i];
                char text[DIGEST_MAX_TEXT];
                size_t twin = first_twin(im, i);
                if (twin < i && same_content(il, &im->manifest.layers[twin]))
                        continue;
                if (twin < i)
                        return error_set(err, -EBADMSG,
                                "layers %zu and %zu have one digest (%s), but not one size and diff ID", twin + 1,
                                i + 1, digest_format(&il->descriptor.digest, text));
                int r = im->offline ? new_absent(il->descriptor.size, &im->blobs[i], err)
                                    : im->source->ops->blob(im->source, &il->descriptor, &im->blobs[i], err);
                if (r < 0)
                        return error_wrap(err, r, "layer %zu (%s)", i + 1, digest_format(&il->descriptor.digest, text));
                r = stored_index(im, il, &indexes[i], err);
                if (r < 0)
                        return r;
                if (r == 0)
                        jobs[count++] = (struct scan_job){.im = im, .layer = i};
        }
        *ret_jobs = count;
        return 0;
}

static void say_notes(const struct image *im, size_t i, const struct tar_notes *n)
{
        char text[DIGEST_MAX_TEXT], notes[NOTES_TEXT];
        if (*notes_of_layer(n, notes))
                log_notice("layer %zu (%s): %s", i + 1, digest_format(&im->manifest.layers[i].descriptor.digest, text),
                        notes);
}

/* takes the indexes over, also on failure */
static int open_layers(struct image *im, struct index **indexes, struct error *err)
{
        int r = 0;
        for (size_t i = 0; i < im->manifest.layer_count; i++) {
                size_t twin = first_twin(im, i);
                if (r < 0) {
                        index_free(indexes[i]);
                } else if (twin < i) {
                        im->layers[i] = layer_ref(im->layers[twin]);
                } else {
                        say_notes(im, i, &index_info(indexes[i])->notes);
                        r = layer_open(indexes[i], im->blobs[i], im->store, im->cache, &im->layers[i], err);
                }
        }
        return r;
}

static int open_tree(struct image *im, const struct image_options *options, struct error *err)
{
        size_t n = im->manifest.layer_count;
        im->blobs = calloc(n + 1, sizeof *im->blobs);
        im->layers = calloc(n + 1, sizeof *im->layers);
        im->ahead = pool_new(MIN(pool_cpus(), (unsigned)AHEAD_THREADS_MAX), AHEAD_QUEUE);
        im->cache =
                im->ahead ? span_cache_new(options->memory ? options->memory : IMAGE_MEMORY_DEFAULT, im->ahead) : NULL;
        cleanup(freep) struct index **indexes = calloc(n + 1, sizeof(struct index *));
        cleanup(freep) struct scan_job *jobs = calloc(n + 1, sizeof *jobs);
        if (!im->blobs || !im->layers || !im->cache || !indexes || !jobs)
                return error_nomem(err);
        size_t count = 0;
        int r = find_indexes(im, indexes, jobs, &count, err);
        if (r == 0)
                r = scan_missing(im, jobs, count, options->progress, err);
        for (size_t i = 0; i < count; i++)
                if (jobs[i].index)
                        indexes[jobs[i].layer] = jobs[i].index;
        if (r < 0) {
                for (size_t i = 0; i < n; i++)
                        index_free(indexes[i]);
                return r;
        }
        r = open_layers(im, indexes, err);
        return r < 0 ? r : tree_merge(im->layers, n, false, &im->tree, err);
}

static void say_tree_notes(const struct image *im)
{
        char notes[NOTES_TEXT];
        if (*notes_of_tree(tree_stats(im->tree), notes))
                log_notice("%s", notes);
}

static int open_store(struct image *im, const struct image_options *options, struct error *err)
{
        if (options->cache_dir && !strcmp(options->cache_dir, "none")) {
                im->store = store_new_null();
                return im->store ? 0 : error_nomem(err);
        }
        struct store_options so = {.dir = options->cache_dir, .size_max = options->cache_size};
        return store_open(&so, &im->store, err);
}

/* puts the image in front, unless its file is named already: local sources do that */
static int name_failure(const struct image *im, int r, struct error *err)
{
        const char *file = im->reference.file;
        return file && err && strstr(err->msg, file) ? r : error_wrap(err, r, "%s", im->name);
}

/* The image's source and manifest, by the name that it has now. */
static int open_named(struct image *im, const struct image_options *options, struct error *err)
{
        free(im->name);
        im->name = reference_text(&im->reference);
        if (!im->name)
                return error_nomem(err);
        int r = open_source(im, options, err);
        if (r == 0)
                r = load_manifest(im, options, err);
        return r < 0 ? name_failure(im, r, err) : 0;
}

/* A short name that is searched for in several registries: the first that has it. */
static int search(
        struct image *im, const struct image_options *options, struct reference *names, size_t count, struct error *err)
{
        cleanup(buf_done) struct buf said;
        buf_init(&said, sizeof err->msg);
        int code = 0;
        for (size_t i = 0; i < count; i++) {
                struct error e = {0};
                source_close(take(im->source));
                im->registry = NULL;
                reference_done(&im->reference);
                im->reference = names[i];
                names[i] = (struct reference){0};
                int r = open_named(im, options, &e);
                if (r == 0 || r == -ECANCELED || r == -ENOMEM)
                        return r < 0 ? error_set(err, r, "%s", e.msg) : 0;
                buf_addf(&said, "%s%s", i ? "; " : "", e.msg);
                code = code == 0 || r != -ENOENT ? r : code;
        }
        return error_set(err, code, "%s%s", buf_str(&said),
                count > 1 ? " (these are the unqualified-search-registries of registries.conf)" : "");
}

static int find_image(struct image *im, const struct image_options *options, struct error *err)
{
        struct reference *names = NULL;
        size_t count = 0;
        if (im->reference.transport != REFERENCE_REGISTRY || !im->reference.short_name)
                return open_named(im, options, err);
        int r = registry_names(&im->reference, &options->registry, &names, &count, err);
        if (r < 0)
                return r;
        r = search(im, options, names, count, err);
        names_free(names, count);
        return r;
}

int image_open(const char *reference, const struct image_options *options, struct image **ret_image, struct error *err)
{
        cleanup(image_closep) struct image *im = calloc(1, sizeof *im);
        if (!im)
                return error_nomem(err);
        int r = reference_parse(reference, &im->reference, err);
        if (r < 0)
                return r;
        r = open_store(im, options, err);
        if (r == 0)
                r = find_image(im, options, err);
        if (r < 0)
                return r;
        r = open_tree(im, options, err);
        if (r < 0)
                return name_failure(im, r, err);
        say_tree_notes(im);
        im->idle = idle_start(im->cache);
        *ret_image = take(im);
        return 0;
}

void image_close(struct image *im)
{
        if (!im)
                return;
        idle_stop(im->idle);
        if (im->cache)
                span_cache_stop(im->cache);
        pool_free(im->ahead); /* first of all that is used: its jobs hold layers */
        tree_free(im->tree);
        for (size_t i = 0; i < im->manifest.layer_count; i++) {
                if (im->layers)
                        layer_unref(im->layers[i]);
                if (im->blobs)
                        blob_unref(im->blobs[i]);
        }
        free(im->layers);
        free(im->blobs);
        span_cache_free(im->cache);
        manifest_done(&im->manifest);
        source_close(im->source);
        store_close(im->store);
        free(im->name);
        reference_done(&im->reference);
        free(im);
}

const struct tree *image_tree(const struct image *im)
{
        return im->tree;
}

const struct manifest *image_manifest(const struct image *im)
{
        return &im->manifest;
}

const char *image_name(const struct image *im)
{
        return im->name;
}

int image_fill(struct image *im, struct image_progress *progress, struct error *err)
{
        uint64_t total = 0;
        unsigned layers = 0;
        for (size_t i = 0; i < im->manifest.layer_count; i++) {
                total += first_twin(im, i) == i ? layer_fill_bytes(im->layers[i]) : 0;
                layers += first_twin(im, i) == i;
        }
        if (progress) {
                atomic_store(&progress->done, 0);
                atomic_store(&progress->total, total);
                atomic_store(&progress->layers_done, 0);
                atomic_store(&progress->layers, layers);
        }
        for (size_t i = 0; i < im->manifest.layer_count; i++) {
                if (first_twin(im, i) < i)
                        continue;
                int r = layer_fill(im->layers[i], progress ? &progress->done : NULL, err);
                if (r < 0)
                        return error_wrap(err, r, "%s: layer %zu", im->name, i + 1);
                if (progress)
                        atomic_fetch_add(&progress->layers_done, 1);
        }
        return 0;
}

void image_count_error(struct image *im)
{
        atomic_fetch_add(&im->errors, 1);
}

/* bytes of this process in memory: proc(5), statm */
static uint64_t resident_bytes(void)
{
        unsigned long long total = 0, resident = 0;
        FILE *f = fopen("/proc/self/statm", "re");
        if (f && fscanf(f, "%llu %llu", &total, &resident) != 2)
                resident = 0;
        if (f)
                fclose(f);
        return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

json_t *image_stat(const struct image *im)
{
        struct registry_counters net = im->registry ? registry_count(im->registry) : (struct registry_counters){0};
        struct span_cache_counters spans = span_cache_count(im->cache);
        struct store_counters stored = store_count(im->store);
        char digest[DIGEST_MAX_TEXT], platform[100];
        return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "image", im->name,
                "manifest_digest", digest_format(&im->manifest.digest, digest), "platform",
                platform_format(&im->manifest.platform, platform), "layers", (json_int_t)im->manifest.layer_count,
                "entries", (json_int_t)tree_stats(im->tree)->names, "fetched_bytes", (json_int_t)net.fetched_bytes,
                "store_bytes", (json_int_t)stored.read_bytes, "requests", (json_int_t)net.requests, "retries",
                (json_int_t)net.retries, "spans_inflated", (json_int_t)spans.inflated, "span_cache_hits",
                (json_int_t)spans.hits, "span_cache_bytes", (json_int_t)spans.bytes, "memory_bytes",
                (json_int_t)resident_bytes(), "errors", (json_int_t)atomic_load(&im->errors));
}

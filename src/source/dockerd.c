/*
 * How: whoever uses docker with a registry without certificates, or with a mirror of Docker Hub, has written it here, and docker
 * reads no other file for it. The daemon is not asked: it may not run. What it was given on its command line is not known.
 *
 * Known limit: docker also looks up names to see whether they are in an insecure network; that is not done.
 */
#include "source/dockerd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "source/conf.h"

void dockerd_done(struct dockerd *d)
{
        for (size_t i = 0; i < d->mirror_count; i++)
                free(d->mirrors[i].host);
        for (size_t i = 0; i < d->insecure_count; i++)
                free(d->insecure[i]);
        free(d->mirrors);
        free(d->insecure);
        *d = (struct dockerd){0};
}

/* what stands behind http:// or https:// */
static const char *behind_scheme(const char *url)
{
        return strncmp(url, "http://", 7) == 0 ? url + 7 : strncmp(url, "https://", 8) == 0 ? url + 8 : url;
}

/* "https://host:port/"; docker would not start with anything else */
static int add_mirror(struct dockerd *d, const char *url)
{
        const char *host = behind_scheme(url);
        size_t len = strcspn(host, "/");
        if (!len || host[len + (host[len] == '/')] || strpbrk(host, "@?# "))
                return 0;
        char *copy = strndup(host, len);
        if (!copy)
                return -ENOMEM;
        d->mirrors[d->mirror_count++] = (struct dockerd_mirror){copy, host == url + 7};
        return 0;
}

static int add_insecure(struct dockerd *d, const char *text)
{
        char *copy = strdup(behind_scheme(text));
        if (!copy)
                return -ENOMEM;
        d->insecure[d->insecure_count++] = copy;
        return 0;
}

static int read_lists(json_t *doc, struct dockerd *d)
{
        json_t *mirrors = NULL, *insecure = NULL, *item;
        size_t i;
        json_get_array(doc, "registry-mirrors", &mirrors, NULL);
        json_get_array(doc, "insecure-registries", &insecure, NULL);
        d->mirrors = calloc(json_array_size(mirrors) + 1, sizeof *d->mirrors);
        d->insecure = calloc(json_array_size(insecure) + 1, sizeof *d->insecure);
        int r = d->mirrors && d->insecure ? 0 : -ENOMEM;
        json_array_foreach(mirrors, i, item)
        {
                if (r == 0 && json_is_string(item))
                        r = add_mirror(d, json_string_value(item));
        }
        json_array_foreach(insecure, i, item)
        {
                if (r == 0 && json_is_string(item))
                        r = add_insecure(d, json_string_value(item));
        }
        return r;
}

int dockerd_parse(const char *text, size_t len, struct dockerd *ret, struct error *err)
{
        cleanup(json_freep) json_t *doc = NULL;
        int r = json_parse_config(text, len, &doc, err);
        if (r < 0)
                return r;
        if (!json_is_object(doc))
                return error_set(err, -EBADMSG, "not an object");
        struct dockerd d = {0};
        if (read_lists(doc, &d) < 0) {
                dockerd_done(&d);
                return error_nomem(err);
        }
        *ret = d;
        return 0;
}

/* 1: it was there */
static int load_file(const char *path, struct dockerd *ret, struct error *err)
{
        struct conf_file file;
        struct error why = {0};
        int r = conf_read(path, DOCKERD_MAX_BYTES, &file, &why);
        if (r == -ENOMEM)
                return error_nomem(err);
        if (r < 0)
                return r == -ENOENT ? 0 : 1;
        log_debug(LOG_HTTP, "reading %s", path);
        r = dockerd_parse(file.data, file.len, ret, &why);
        conf_done(&file);
        if (r == -ENOMEM)
                return error_nomem(err);
        if (r < 0)
                log_warning("%s: %s; going on without it", path, why.msg);
        return 1;
}

int dockerd_load(struct dockerd *ret, struct error *err)
{
        cleanup(freep) char *own = geteuid() != 0 ? conf_user("/docker/daemon.json") : NULL;
        int r = own ? load_file(own, ret, err) : 0;
        if (r == 0)
                r = load_file("/etc/docker/daemon.json", ret, err);
        return MIN(r, 0);
}

/* ---- insecure? */

/* "10.1.2.3:5000", "[::1]:5000" -> the address's bytes; 4 or 16 of them, 0: a name */
static int address(const char *domain, uint8_t bytes[16])
{
        char host[64];
        bool brackets = *domain == '[';
        size_t len = strcspn(domain + brackets, brackets ? "]" : ":");
        if (len >= sizeof host)
                return 0;
        memcpy(host, domain + brackets, len);
        host[len] = '\0';
        if (inet_pton(brackets ? AF_INET6 : AF_INET, host, bytes) != 1)
                return 0;
        return brackets ? 16 : 4;
}

static bool in_network(const uint8_t *bytes, int len, const char *network)
{
        char text[64], *end;
        uint8_t base[16];
        size_t stem = strcspn(network, "/");
        if (!network[stem] || stem >= sizeof text)
                return false;
        memcpy(text, network, stem);
        text[stem] = '\0';
        const char *number = network + stem + 1;
        long bits = strtol(number, &end, 10);
        if (inet_pton(len == 4 ? AF_INET : AF_INET6, text, base) != 1 || end == number || *end || bits < 0 ||
                bits > len * 8L)
                return false;
        int whole = (int)bits / 8, rest = (int)bits % 8;
        return memcmp(bytes, base, (size_t)whole) == 0 &&
               (rest == 0 || (bytes[whole] ^ base[whole]) >> (8 - rest) == 0);
}

bool dockerd_is_insecure(const struct dockerd *d, const char *domain)
{
        uint8_t bytes[16];
        int len = address(domain, bytes);
        for (size_t i = 0; i < d->insecure_count; i++)
                if (strcasecmp(d->insecure[i], domain) == 0 || (len && in_network(bytes, len, d->insecure[i])))
                        return true;
        return false;
}

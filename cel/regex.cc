#include "cel/regex.h"

#include <re2/re2.h>

#include <array>
#include <cstdio>
#include <memory>
#include <new>
#include <string>

#include "cel/glob.h"

struct mr_cel_regex {
    re2::RE2 re2;
    mr_cel_glob glob;
    mr_cel_regex(const re2::StringPiece &pattern, const re2::RE2::Options &options)
        : re2(pattern, options)
    {
        mr_cel_glob_parse(pattern.data(), pattern.size(), &glob);
    }
};

namespace
{
constexpr int64_t memory_max = 1 << 19; // of one pattern: its program and its automaton's states

mr_cel_regex_rc fail(mr_cel_regex_rc rc, char why[128], const char *format, const char *what,
                     unsigned long limit)
{
    // A pattern may be quoted in RE2's text: cut, but not in the middle of a code point.
    char text[160];
    snprintf(text, sizeof text, format, what, limit);
    size_t len = strnlen(text, sizeof text);
    if (len > 127)
        for (len = 127; len > 0 && (text[len] & 0xc0) == 0x80;)
            len--;
    memcpy(why, text, len);
    why[len] = '\0';
    return rc;
}
} // namespace

mr_cel_regex_rc mr_cel_regex_create(const char *pattern, size_t len,
                                    const mr_cel_regex_limits *limits, mr_cel_regex **out,
                                    char why[128])
{
    if (len > limits->pattern_bytes_max)
        return fail(MR_CEL_REGEX_TOO_BIG, why, "%s %lu bytes", "the pattern is longer than",
                    limits->pattern_bytes_max);
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(memory_max);
    options.set_never_capture(true);
    std::unique_ptr<mr_cel_regex> regex(new (std::nothrow)
                                            mr_cel_regex(re2::StringPiece(pattern, len), options));
    if (!regex)
        return fail(MR_CEL_REGEX_NO_MEMORY, why, "%s", "no memory for a pattern", 0);
    if (regex->re2.error_code() == re2::RE2::ErrorPatternTooLarge)
        return fail(MR_CEL_REGEX_TOO_BIG, why, "%s", "the pattern's program is too large", 0);
    if (!regex->re2.ok())
        return fail(MR_CEL_REGEX_SYNTAX, why, "%s", regex->re2.error().c_str(), 0);
    if (regex->re2.ProgramSize() > static_cast<int>(limits->program_size_max))
        return fail(MR_CEL_REGEX_TOO_BIG, why, "%s %lu instructions",
                    "the pattern's program has more than", limits->program_size_max);
    *out = regex.release();
    return MR_CEL_REGEX_OK;
}

void mr_cel_regex_destroy(mr_cel_regex **regex)
{
    delete *regex;
    *regex = nullptr;
}

bool mr_cel_regex_search(const mr_cel_regex *regex, const char *text, size_t len)
{
    if (regex->glob.count > 0) {
        mr_cel_glob_match match = mr_cel_glob_search(&regex->glob, text, len);
        if (match != MR_CEL_GLOB_UNSURE)
            return match == MR_CEL_GLOB_YES;
    }
    return regex->re2.Match(re2::StringPiece(text, len), 0, len, re2::RE2::UNANCHORED, nullptr, 0);
}

namespace
{
struct cached {
    std::string pattern;
    std::unique_ptr<mr_cel_regex> regex;
    mr_cel_regex_rc rc = MR_CEL_REGEX_OK;
    char why[128] = "";
    uint64_t used = 0; // 0: empty
};
} // namespace

struct mr_cel_regex_cache {
    mr_cel_regex_limits limits;
    std::array<cached, 16> entries;
    uint64_t clock = 0;
};

mr_cel_regex_rc mr_cel_regex_cache_create(const mr_cel_regex_limits *limits,
                                          mr_cel_regex_cache **out)
{
    *out = new (std::nothrow) mr_cel_regex_cache;
    if (!*out)
        return MR_CEL_REGEX_NO_MEMORY;
    (*out)->limits = *limits;
    return MR_CEL_REGEX_OK;
}

void mr_cel_regex_cache_destroy(mr_cel_regex_cache **cache)
{
    delete *cache;
    *cache = nullptr;
}

mr_cel_regex_rc mr_cel_regex_cache_get(mr_cel_regex_cache *cache, const char *pattern, size_t len,
                                       const mr_cel_regex **out, const char **why)
{
    cached *oldest = &cache->entries[0], *found = nullptr;
    for (cached &entry : cache->entries) {
        if (entry.used > 0 && entry.pattern.size() == len &&
            memcmp(entry.pattern.data(), pattern, len) == 0)
            found = &entry;
        if (entry.used < oldest->used)
            oldest = &entry;
    }
    if (!found) {
        found = oldest;
        found->regex.reset();
        mr_cel_regex *regex = nullptr;
        found->rc = mr_cel_regex_create(pattern, len, &cache->limits, &regex, found->why);
        found->regex.reset(regex);
        // What is too long is not worth its room here: it is refused by its length alone.
        if (len > cache->limits.pattern_bytes_max) {
            found->used = 0;
            *why = found->why;
            return found->rc;
        }
        found->pattern.assign(pattern, len);
    }
    found->used = ++cache->clock;
    *out = found->regex.get();
    *why = found->why;
    return found->rc;
}

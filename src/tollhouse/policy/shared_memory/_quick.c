/* The two steps that every call takes in the shared counters, when nothing is out of the ordinary.

`place` and `settle` do what `SharedCounters._place` and `_settle_apart` do, on the same files, under the same lock and in the same
order; layout.py, berths.py and store.py say what the words mean and why the order matters.  Whatever is not plain (the lock is
taken, the last holder died, a slot has moved, a limit is reached, a purse is unseeded) changes nothing and returns `None`: then the
caller goes the long way in Python, which also knows what to say.  So there is one place for every rule that a person meets, and
without this module the gateway counts the same, a little slower.

Built against the stable ABI: one file serves every Python from 3.11 on. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>

/* layout.py */
enum { LAYOUT_VERSION = 3 };
enum { PAGE_BYTES = 4096, WORD_BYTES = 8 };
enum { AT_DIRTY = 4, AT_SEEN_NS = 5, AT_MOVED = 7 };
enum { PURSE = 0, REQUESTS = 1, TOKENS = 2, SEATS = 3, KIND_MASK = 3 };
enum { VALUE = 1, FLAGS = 1, SPENT = 4, HELD = 5, MOMENT = 6 };
enum { IS_SEEDED = 1 };
static const int64_t CEILING = ((int64_t)1 << 62) - 1;

/* berths.py */
enum { TOP = 2, INDEX = PAGE_BYTES / WORD_BYTES, MAX_CLAIMS = 8192 };
enum { CLAIMS_AT = PAGE_BYTES + MAX_CLAIMS * WORD_BYTES, CLAIM_BYTES = 2 * PAGE_BYTES };
enum { MAX_ID_BYTES = 64, MAX_NOTE_BYTES = 640 };

typedef struct {
    uint32_t checksum;
    uint16_t id_bytes, note_bytes;
    uint32_t parts, nothing;
    int64_t hold_nano, tokens;
    char id[MAX_ID_BYTES];
} Head;

typedef struct {
    int64_t at, identity, number, per_minute;
} Part;

enum { MAX_PARTS = (PAGE_BYTES - sizeof(Head) - MAX_NOTE_BYTES) / sizeof(Part) };

/* counters.py, store.py */
static const int64_t MINUTE_NS = 60000000000, MAX_DEBT_NS = 86400000000000;
static const int64_t MAX_LIMIT_NANO = 9000000000000000, MAX_TOKENS = (int64_t)1 << 62;

/* sites.py: the plan of a kind of claim is a `Plan`, then its rates, seats, purses, and the parts as a berth has them. */
typedef struct {
    int64_t moved, rates, seats, purses;
} Plan;

typedef struct {
    int64_t word, take_ns, most_tokens, per_minute;
} RateSite;

typedef struct {
    int64_t word, limit;
} SeatsSite;

typedef struct {
    int64_t spent, held, limit;
} PurseSite;

static uint32_t crc_table[256];

static void make_crc_table(void) {
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        crc_table[n] = c;
    }
}

/* As zlib.crc32. */
static uint32_t crc32_of(uint32_t crc, const char *bytes, size_t size) {
    crc = ~crc;
    for (size_t i = 0; i < size; i++)
        crc = crc_table[(crc ^ (uint8_t)bytes[i]) & 0xff] ^ (crc >> 8);
    return ~crc;
}

/* n * MINUTE_NS // per_minute, as Python divides; too much for a word is as much as a word holds. */
static int64_t time_of(__int128 n, int64_t per_minute) {
    __int128 product = n * MINUTE_NS, whole = product / per_minute;
    if (product % per_minute && (product < 0) != (per_minute < 0))
        whole--;
    return whole > INT64_MAX / 4 ? INT64_MAX / 4 : whole < INT64_MIN / 4 ? INT64_MIN / 4 : (int64_t)whole;
}

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* What a death must find in the order in which it was written. */
static inline void then(void) { atomic_signal_fence(memory_order_seq_cst); }

typedef struct {
    Py_buffer counters, berth;
    volatile int64_t *words, *index;
    int64_t size, claims;
    int lock;
} Inside;

/* Maps the files and takes the lock without waiting; -1 with an exception, 0 when the long way has to be gone. */
static int enter(Inside *in, PyObject *counters, PyObject *berth, PyObject *lock) {
    long file = PyLong_AsLong(lock);
    if (file == -1 && PyErr_Occurred())
        return -1;
    if (PyObject_GetBuffer(counters, &in->counters, PyBUF_WRITABLE) < 0)
        return -1;
    if (PyObject_GetBuffer(berth, &in->berth, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&in->counters);
        return -1;
    }
    in->lock = (int)file;
    in->words = in->counters.buf;
    in->size = in->counters.len / WORD_BYTES;
    in->index = (volatile int64_t *)in->berth.buf + INDEX;
    in->claims = smaller((in->berth.len - CLAIMS_AT) / CLAIM_BYTES, MAX_CLAIMS);
    if (in->lock < 0 || flock(in->lock, LOCK_EX | LOCK_NB) == 0) {
        if (!in->words[AT_DIRTY])
            return 1;
        if (in->lock >= 0)
            flock(in->lock, LOCK_UN);
    }
    PyBuffer_Release(&in->berth);
    PyBuffer_Release(&in->counters);
    return 0;
}

static void leave(Inside *in) {
    if (in->lock >= 0)
        flock(in->lock, LOCK_UN);
    PyBuffer_Release(&in->berth);
    PyBuffer_Release(&in->counters);
}

static inline bool is_word(const Inside *in, int64_t at) { return 0 <= at && at < in->size; }

static inline char *page_of(const Inside *in, int64_t place, int64_t side) {
    return (char *)in->berth.buf + CLAIMS_AT + place * CLAIM_BYTES + side * PAGE_BYTES;
}

/* Whether a claim fits; `ahead` is then how far from full each of its rates will be. */
static bool fits(const Inside *in, const Plan *plan, int64_t now, int64_t hold, int64_t tokens, int64_t *ahead) {
    const RateSite *rates = (const RateSite *)(plan + 1);
    const SeatsSite *seats = (const SeatsSite *)(rates + plan->rates);
    const PurseSite *purses = (const PurseSite *)(seats + plan->seats);
    volatile int64_t *words = in->words;
    for (int64_t i = 0; i < plan->purses; i++) {
        if (!is_word(in, purses[i].spent) || !is_word(in, purses[i].held))
            return false;
        int64_t left = purses[i].limit;
        if (words[purses[i].spent] > left || (left -= words[purses[i].spent]) < words[purses[i].held] ||
            left - words[purses[i].held] < hold)
            return false;
    }
    for (int64_t i = 0; i < plan->rates; i++) {
        if (!is_word(in, rates[i].word))
            return false;
        int64_t takes = tokens >= rates[i].most_tokens ? rates[i].take_ns : time_of(tokens, rates[i].per_minute);
        ahead[i] = larger(words[rates[i].word] - now, 0) + takes;
        if (ahead[i] > MINUTE_NS)
            return false;
    }
    for (int64_t i = 0; i < plan->seats; i++)
        if (!is_word(in, seats[i].word) || words[seats[i].word] >= seats[i].limit)
            return false;
    return true;
}

static void take(Inside *in, const Plan *plan, int64_t now, int64_t hold, const int64_t *ahead) {
    const RateSite *rates = (const RateSite *)(plan + 1);
    const SeatsSite *seats = (const SeatsSite *)(rates + plan->rates);
    const PurseSite *purses = (const PurseSite *)(seats + plan->seats);
    for (int64_t i = 0; i < plan->rates; i++)
        in->words[rates[i].word] = now + ahead[i];
    for (int64_t i = 0; i < plan->seats; i++)
        in->words[seats[i].word] += 1;
    for (int64_t i = 0; i < plan->purses; i++)
        in->words[purses[i].held] += hold;
}

static int number_of(PyObject *number, int64_t *value) {
    *value = PyLong_AsLongLong(number);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

/* A number that no word holds is refused by Python, which says why; any other exception goes on. */
static PyObject *refused(void) {
    if (!PyErr_ExceptionMatches(PyExc_OverflowError))
        return NULL;
    PyErr_Clear();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(place_doc, "place(counters, berth, lock, plan, place, now_ns, began_at_us, hold_nano, tokens, id, note)\n\n"
                        "Places a claim: how far from full its rates are then, or None.");

static PyObject *place(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    (void)module;
    if (count != 11)
        return PyErr_Format(PyExc_TypeError, "place takes 11 arguments, not %zd", count);
    char *plan_bytes, *note;
    Py_ssize_t plan_size, note_size, id_size;
    int64_t spot, now, began, hold, tokens, ahead[MAX_PARTS];
    if (PyBytes_AsStringAndSize(given[3], &plan_bytes, &plan_size) < 0 || number_of(given[4], &spot) < 0 ||
        number_of(given[5], &now) < 0 || number_of(given[6], &began) < 0 || number_of(given[7], &hold) < 0 ||
        number_of(given[8], &tokens) < 0 || PyBytes_AsStringAndSize(given[10], &note, &note_size) < 0)
        return refused();
    const char *id = PyUnicode_AsUTF8AndSize(given[9], &id_size);
    if (id == NULL)
        return NULL;

    const Plan *plan = (const Plan *)plan_bytes;
    int64_t parts = plan_size < (Py_ssize_t)sizeof(Plan) ? 0 : plan->rates + plan->seats + plan->purses;
    size_t row_bytes = (size_t)parts * sizeof(Part);
    if (parts < 1 || parts > MAX_PARTS ||
        (size_t)plan_size != sizeof(Plan) + (size_t)plan->rates * sizeof(RateSite) + (size_t)plan->seats * sizeof(SeatsSite) +
                                 (size_t)plan->purses * sizeof(PurseSite) + row_bytes)
        return PyErr_Format(PyExc_ValueError, "a plan of %zd bytes", plan_size);
    if (id_size < 1 || id_size > MAX_ID_BYTES || memchr(id, 0, (size_t)id_size) || note_size > MAX_NOTE_BYTES || hold < 0 ||
        hold > MAX_LIMIT_NANO || began < 0 || began > INT64_MAX / 4 || tokens < 0 || tokens > MAX_TOKENS)
        Py_RETURN_NONE;

    Inside in;
    int is_in = enter(&in, given[0], given[1], given[2]);
    if (is_in < 0)
        return NULL;
    if (!is_in)
        Py_RETURN_NONE;
    bool is_placed = false;
    in.words[AT_DIRTY] = 1;
    then();
    in.words[AT_SEEN_NS] = now;
    if (0 <= spot && spot < in.claims && plan->moved == in.words[AT_MOVED] && fits(&in, plan, now, hold, tokens, ahead)) {
        char *page = page_of(&in, spot, 0);
        Head head = {
            .checksum = crc32_of(crc32_of(0, id, (size_t)id_size), note, (size_t)note_size),
            .id_bytes = (uint16_t)id_size,
            .note_bytes = (uint16_t)note_size,
            .parts = (uint32_t)parts,
            .hold_nano = hold,
            .tokens = tokens,
        };
        memcpy(head.id, id, (size_t)id_size);
        memcpy(page, &head, sizeof head);
        memcpy(page + sizeof head, plan_bytes + plan_size - row_bytes, row_bytes);
        memcpy(page + sizeof head + row_bytes, note, (size_t)note_size);
        if (spot >= in.index[TOP - INDEX])
            in.index[TOP - INDEX] = spot + 1;
        then();
        in.index[spot] = (began + 1) << 1;
        then();
        take(&in, plan, now, hold, ahead);
        is_placed = true;
    }
    then();
    in.words[AT_DIRTY] = 0;
    int64_t rates = plan->rates;
    leave(&in);
    if (!is_placed)
        Py_RETURN_NONE;

    PyObject *answer = PyTuple_New((Py_ssize_t)rates);
    for (int64_t i = 0; answer != NULL && i < rates; i++) {
        PyObject *number = PyLong_FromLongLong(ahead[i]);
        if (number == NULL || PyTuple_SetItem(answer, (Py_ssize_t)i, number) < 0)
            Py_CLEAR(answer);
    }
    return answer;
}

typedef struct {
    int64_t spot, cost, tokens;
    bool knows_tokens, is_watched;
} Ended;

typedef struct {
    int64_t at, identity, before, after;
} Step;

static int read_ended(PyObject *given, Ended *ended) {
    if (PyTuple_Size(given) != 4) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "an ended claim is its place, its cost, its tokens, and whether it is watched");
        return -1;
    }
    PyObject *tokens = PyTuple_GetItem(given, 2);
    ended->knows_tokens = tokens != Py_None;
    ended->is_watched = PyTuple_GetItem(given, 3) == Py_True;
    ended->tokens = 0;
    if (number_of(PyTuple_GetItem(given, 0), &ended->spot) < 0 || number_of(PyTuple_GetItem(given, 1), &ended->cost) < 0 ||
        (ended->knows_tokens && number_of(tokens, &ended->tokens) < 0))
        return -1;
    return 0;
}

static const Part *parts_of(const Inside *in, int64_t spot, int64_t *count, const Head **head) {
    const char *page = page_of(in, spot, in->index[spot] & 1);
    *head = (const Head *)page;
    *count = smaller((*head)->parts, MAX_PARTS);
    return (const Part *)(page + sizeof(Head));
}

/* Whether all that a claim counts can be settled here. */
static bool is_plain(const Inside *in, const Ended *ended) {
    if (ended->spot < 0 || ended->spot >= in->claims || !in->index[ended->spot] || ended->cost < 0 || ended->cost > MAX_LIMIT_NANO ||
        ended->tokens < 0 || ended->tokens > MAX_TOKENS)
        return false;
    int64_t began = (in->index[ended->spot] >> 1) - 1, count;
    const Head *head;
    const Part *part = parts_of(in, ended->spot, &count, &head);
    for (int64_t i = 0; i < count; i++, part++) {
        if (!is_word(in, part->at) || !is_word(in, part->at + MOMENT) || in->words[part->at] != part->identity)
            return false;
        if ((part->identity & KIND_MASK) == PURSE &&
            (!(in->words[part->at + FLAGS] & IS_SEEDED) || began < in->words[part->at + MOMENT]))
            return false;
        if ((part->identity & KIND_MASK) == TOKENS && part->per_minute < 1)
            return false;
    }
    return true;
}

/* Settles a claim and wipes it from the berth; how many purses it changed.  One that was named before has ended already. */
static int64_t settle_one(Inside *in, const Ended *ended, int64_t now, Step *steps) {
    if (!in->index[ended->spot])
        return 0;
    volatile int64_t *words = in->words;
    const Head *head;
    int64_t count, taken = 0;
    const Part *part = parts_of(in, ended->spot, &count, &head);
    for (int64_t i = 0; i < count; i++, part++) {
        volatile int64_t *slot = words + part->at;
        switch (part->identity & KIND_MASK) {
        case TOKENS:
            if (ended->knows_tokens) {
                int64_t took = part->number < 0 ? smaller(head->tokens, -part->number) : part->number;
                int64_t full_at = larger(slot[VALUE], now) + time_of((__int128)ended->tokens - took, part->per_minute);
                slot[VALUE] = smaller(full_at, now + MAX_DEBT_NS);
            }
            break;
        case SEATS:
            slot[VALUE] -= 1;
            break;
        case PURSE:
            slot[HELD] -= part->number < 0 ? head->hold_nano : part->number;
            steps[taken++] = (Step){part->at, part->identity, slot[SPENT], slot[SPENT] + ended->cost};
            slot[SPENT] = smaller(slot[SPENT] + ended->cost, CEILING);
            break;
        default:
            break;
        }
    }
    then();
    in->index[ended->spot] = 0;
    return taken;
}

PyDoc_STRVAR(settle_doc, "settle(counters, berth, lock, now_ns, endings)\n\n"
                         "Settles claims, each given as (place, cost_nano, tokens or None, is_watched), all or none: None, or of each that is\n"
                         "watched what it did to its purses, as (at, identity, before_nano, after_nano).");

static PyObject *settle(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    (void)module;
    if (count != 5)
        return PyErr_Format(PyExc_TypeError, "settle takes 5 arguments, not %zd", count);
    int64_t now;
    Py_ssize_t claims = PyList_Size(given[4]);
    if (claims < 0 || number_of(given[3], &now) < 0)
        return NULL;
    Ended *ended = PyMem_Malloc(sizeof(Ended) * (size_t)(claims + 1));
    if (ended == NULL)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < claims; i++)
        if (read_ended(PyList_GetItem(given[4], i), &ended[i]) < 0) {
            PyMem_Free(ended);
            return refused();
        }

    /* All that can fail for want of memory is done before anything is changed. */
    Step *steps = PyMem_Malloc(sizeof(Step) * (size_t)(claims * MAX_PARTS + 1));
    int64_t *taken = PyMem_Malloc(sizeof(int64_t) * (size_t)(claims + 1));
    PyObject *answer = NULL;
    Inside in;
    int is_in = steps == NULL || taken == NULL ? (PyErr_NoMemory(), -1) : enter(&in, given[0], given[1], given[2]);
    if (is_in <= 0)
        goto out;
    bool are_plain = true;
    for (Py_ssize_t i = 0; i < claims && are_plain; i++)
        are_plain = is_plain(&in, &ended[i]);
    if (are_plain) {
        in.words[AT_DIRTY] = 1;
        then();
        for (Py_ssize_t i = 0; i < claims; i++)
            taken[i] = settle_one(&in, &ended[i], now, steps + i * MAX_PARTS);
        then();
        in.words[AT_DIRTY] = 0;
    }
    leave(&in);
    if (!are_plain) {
        is_in = 0;
        goto out;
    }
    answer = PyList_New(claims);
    for (Py_ssize_t i = 0; answer != NULL && i < claims; i++) {
        int64_t wanted = ended[i].is_watched ? taken[i] : 0;
        PyObject *told = PyTuple_New((Py_ssize_t)wanted);
        for (int64_t k = 0; told != NULL && k < wanted; k++) {
            const Step *step = steps + i * MAX_PARTS + k;
            PyObject *each = Py_BuildValue("(LLLL)", (long long)step->at, (long long)step->identity, (long long)step->before,
                                           (long long)step->after);
            if (each == NULL || PyTuple_SetItem(told, (Py_ssize_t)k, each) < 0)
                Py_CLEAR(told);
        }
        if (told == NULL || PyList_SetItem(answer, i, told) < 0)
            Py_CLEAR(answer);
    }
out:
    PyMem_Free(ended);
    PyMem_Free(steps);
    PyMem_Free(taken);
    if (answer == NULL && is_in == 0)
        Py_RETURN_NONE;
    return answer;
}

static PyMethodDef methods[] = {
    {"place", (PyCFunction)(void (*)(void))place, METH_FASTCALL, place_doc},
    {"settle", (PyCFunction)(void (*)(void))settle, METH_FASTCALL, settle_doc},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module) {
    make_crc_table();
    return PyModule_AddIntConstant(module, "LAYOUT_VERSION", LAYOUT_VERSION);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_quick", .m_doc = "Placing and settling plain claims.", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__quick(void) { return PyModuleDef_Init(&definition); }

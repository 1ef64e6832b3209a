#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Holds that every file includes the standard headers of the names it uses: itself, or by a header of ours that it
includes. What one standard header brings along of another changes with each release of a compiler, and then
a program that built yesterday does not build.

    std_includes.py ROOT           check the tree; one line "FILE:LINE: what" per violation, exit 1 if any
    std_includes.py --self-check   show the rule violating and fitting samples; exit 1 if it misjudges one
"""

import errno
import pathlib
import re
import signal
import sys

sys.dont_write_bytecode = True
from tree_rules import SOURCE, VFS, tree_files  # noqa: E402

# What these headers declare, below std:: and std::ranges::. A name in several lines may come from any of them.
STANDARD = {
    'algorithm': '''adjacent_find all_of any_of binary_search clamp copy copy_if copy_n count count_if equal equal_range
        fill fill_n find find_if find_if_not for_each generate includes is_sorted lexicographical_compare lower_bound
        max max_element merge min min_element minmax mismatch move none_of nth_element partition remove remove_if
        replace reverse rotate search set_difference set_intersection shuffle sort stable_sort starts_with swap_ranges transform unique
        upper_bound''',
    'array': 'array to_array get',
    'atomic': 'atomic atomic_bool atomic_flag atomic_ref atomic_thread_fence memory_order*',
    'bit': 'bit_cast bit_ceil bit_floor bit_width byteswap countl_zero countr_zero endian has_single_bit popcount rotl rotr',
    'cctype': 'isalnum isalpha isdigit isprint isspace isxdigit tolower toupper',
    'charconv': 'chars_format from_chars to_chars',
    'chrono': 'chrono chrono_literals',
    'climits': '',
    'cmath': 'abs ceil exp floor isfinite log pow round sqrt',
    'compare': 'partial_ordering strong_ordering weak_ordering',
    'concepts': '''convertible_to derived_from floating_point integral invocable same_as signed_integral
        unsigned_integral''',
    'condition_variable': 'condition_variable condition_variable_any',
    'csignal': 'raise sig_atomic_t signal',
    'cstdarg': 'va_list',
    'cstddef': 'byte max_align_t nullptr_t ptrdiff_t size_t to_integer',
    'cstdio': '''FILE fclose fflush fopen fprintf fputc fputs fread fwrite getchar perror printf putchar puts remove tmpfile
        rename setvbuf size_t snprintf sscanf vfprintf vsnprintf''',
    'cstdlib': '_Exit abort abs atexit atoi exit free getenv malloc mblen size_t strtod strtol strtoll strtoul strtoull system',
    'cstring': '''memchr memcmp memcpy memmove memset size_t strchr strcmp strcpy strcspn strerror strlen strncmp
        strncpy strrchr strstr''',
    'ctime': 'clock gmtime localtime mktime size_t strftime time time_t timespec tm',
    'deque': 'deque erase erase_if',
    'exception': 'current_exception exception exception_ptr rethrow_exception terminate uncaught_exceptions',
    'expected': 'bad_expected_access expected unexpect unexpected',
    'filesystem': 'filesystem',
    'fstream': 'fstream ifstream ofstream',
    'functional': 'bind_front equal_to function greater greater_equal hash invoke less move_only_function ref reference_wrapper',
    'future': 'async future launch packaged_task promise',
    'initializer_list': 'initializer_list',
    'iomanip': 'setfill setprecision setw',
    'ios': 'hex ios ios_base streamoff streamsize',
    'iostream': 'cerr cin clog cout',
    'istream': 'istream ws',
    'iterator': '''advance back_inserter begin data distance empty end forward_iterator_tag input_iterator_tag inserter
        istream_iterator istreambuf_iterator make_move_iterator next ostream_iterator prev rbegin rend
        reverse_iterator size ssize''',
    'limits': 'numeric_limits',
    'list': 'list erase erase_if',
    'map': 'map multimap erase_if',
    'memory': '''addressof align allocator construct_at destroy_at default_delete dynamic_pointer_cast enable_shared_from_this make_shared
        make_unique make_unique_for_overwrite owner_less shared_ptr static_pointer_cast unique_ptr weak_ptr''',
    'mutex': 'call_once lock_guard mutex once_flag recursive_mutex scoped_lock unique_lock',
    'new': 'align_val_t bad_alloc launder nothrow',
    'numeric': 'accumulate gcd iota lcm midpoint partial_sum reduce',
    'optional': 'make_optional nullopt nullopt_t optional',
    'ostream': 'endl flush ostream',
    'queue': 'priority_queue queue',
    'random': '''bernoulli_distribution discrete_distribution minstd_rand mt19937 mt19937_64 random_device seed_seq
        uniform_int_distribution uniform_real_distribution''',
    'ranges': 'subrange views',
    'regex': 'cmatch regex regex_match regex_replace regex_search smatch sregex_iterator',
    'semaphore': 'binary_semaphore counting_semaphore',
    'set': 'multiset set erase_if',
    'source_location': 'source_location',
    'span': 'as_bytes as_writable_bytes dynamic_extent span',
    'sstream': 'istringstream ostringstream stringstream',
    'stdexcept': 'domain_error invalid_argument length_error logic_error out_of_range overflow_error range_error runtime_error',
    'stop_token': 'stop_callback stop_source stop_token',
    'string': '''char_traits erase erase_if getline npos stod stoi stol stoll stoul stoull string string_literals to_string
        u8string''',
    'string_view': 'string_view string_view_literals',
    'system_error': 'errc error_category error_code error_condition generic_category system_category system_error',
    'thread': 'jthread this_thread thread',
    'tuple': 'apply forward_as_tuple get ignore make_tuple tie tuple tuple_element_t tuple_size_v',
    'type_traits': '''add_const_t common_type_t conditional_t decay_t enable_if_t false_type integral_constant
        invoke_result_t is_base_of_v is_const_v is_convertible_v is_enum_v is_integral_v is_invocable_v is_pointer_v
        is_same_v is_signed_v is_standard_layout_v is_trivially_copyable_v is_trivially_default_constructible_v
        is_unsigned_v is_void_v make_signed_t make_unsigned_t remove_const_t remove_cvref_t remove_pointer_t
        remove_reference_t true_type type_identity_t underlying_type_t void_t''',
    'unordered_map': 'unordered_map unordered_multimap erase_if',
    'unordered_set': 'unordered_set erase_if',
    'utility': '''as_const cmp_less declval exchange forward get in_place in_place_type index_sequence
        integer_sequence make_index_sequence make_pair move pair piecewise_construct swap to_underlying unreachable''',
    'variant': 'get get_if holds_alternative monostate variant variant_alternative_t variant_size_v visit',
    'vector': 'vector erase erase_if',
}
# Headers whose own interface cannot be without a name of another: they are as good.
CONTAINERS = 'array deque list map set span string unordered_map unordered_set vector'
ALSO = {
    'move forward swap': f'algorithm expected functional memory optional tuple variant {CONTAINERS}',
    'pair make_pair': 'map unordered_map set unordered_set',
    'string_view': 'string',
    'size begin end data empty next prev distance': f'string_view {CONTAINERS}',
    'advance': CONTAINERS,
    'initializer_list': CONTAINERS.replace('array ', '').replace('span ', ''),
    'exception': 'stdexcept new',
    'string': 'sstream filesystem',
    'errc error_code': 'charconv filesystem',
    'stop_token stop_source': 'thread',
    'ios hex istream ostream endl flush getline': 'fstream iostream sstream',
    'ostream endl flush': 'ostream',
    'istream ws': 'istream',
}
# Names without std::, and macros; the header of C++, that of C, and what is as good.
PLAIN = [
    (re.compile(r'\bu?int(?:8|16|32|64|ptr|max|_(?:fast|least)\d+)_t\b|\bU?INT(?:8|16|32|64|PTR|MAX)_(?:MAX|MIN|C)\b|'
                r'\bSIZE_MAX\b'), ('cstdint', 'stdint.h', 'cinttypes', 'inttypes.h')),
    (re.compile(r'\b(?:PRI|SCN)[dioux](?:8|16|32|64|PTR|MAX)\b'), ('cinttypes', 'inttypes.h')),
    (re.compile(rf'\b(?:errno|{"|".join(errno.errorcode.values())})\b'), ('cerrno', 'errno.h')),
    (re.compile(r'\bassert\s*\('), ('cassert', 'assert.h')),
    (re.compile(r'\b(?:U?(?:INT|LONG|SHRT|CHAR)_MAX|INT_MIN|LONG_MIN|CHAR_BIT)\b'), ('climits', 'limits.h')),
    (re.compile(rf'\b(?:{"|".join(signal.Signals.__members__)})\b'), ('csignal', 'signal.h')),
    (re.compile(r'\bva_(?:list|start|end|copy)\b'), ('cstdarg', 'stdarg.h')),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*(?P<open>["<])(?P<name>[^">]+)[">]', re.M)
NAME = re.compile(r'\bstd::(?:ranges::)?(\w+)')
# What is no code: comments and literals. Line breaks stay.
NO_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])*\'', re.S)


def declared_by():
    """name -> the headers it may come from; its own first"""
    table = {}
    for header, names in STANDARD.items():
        for name in names.split():
            table.setdefault(name, []).append(header)
    for names, headers in ALSO.items():
        for name in names.split():
            table[name] += headers.split()
    return table


HEADERS_OF = declared_by()
PREFIXES = {name[:-1]: headers for name, headers in HEADERS_OF.items() if name.endswith('*')}


def headers_of(name):
    """The headers of std::`name`; None when the table does not know it."""
    if name in HEADERS_OF:
        return HEADERS_OF[name]
    return next((headers for prefix, headers in PREFIXES.items() if name.startswith(prefix)), None)


class Tree:
    def __init__(self, texts):
        """texts: path -> text of every C and C++ file"""
        self.texts = texts
        self.closures = {}

    def ours(self, path, name):
        """The file that #include "name" in `path` means; None when it is not in the tree."""
        beside = '/'.join(path.split('/')[:-1] + [name])
        return next((p for p in (name, beside) if p in self.texts), None)

    def included(self, path):
        """Every header that is not ours and that `path` includes, itself or by one of ours."""
        if path not in self.closures:
            self.closures[path] = found = set()
            for match in INCLUDE.finditer(self.texts[path]):
                file = self.ours(path, match['name']) if match['open'] == '"' else None
                found |= self.included(file) if file else {match['name']}
        return self.closures[path]

    def check(self, path):
        """Yields (line, what), once for each header that is missing."""
        text = NO_CODE.sub(lambda match: ' ' + '\n' * match[0].count('\n'), self.texts[path])
        text = re.sub(r'^\s*#\s*include\b.*$', '', text, flags=re.M)
        have, told = self.included(path), set()
        uses = [(m.start(), m[0], headers_of(m[1])) for m in NAME.finditer(text)]
        uses += [(m.start(), m[0].rstrip(' ('), headers) for find, headers in PLAIN for m in find.finditer(text)]
        for at, name, headers in sorted(uses, key=lambda use: use[0]):
            line = text.count('\n', 0, at) + 1
            if headers is None:
                if name not in told:
                    yield line, f'{name} is not in the table of tests/rules/std_includes.py: add it to its header'
                told.add(name)
            elif have.isdisjoint(headers) and told.isdisjoint(headers):
                best = next((h for h in headers if path.endswith('.c') == h.endswith('.h')), headers[0])
                yield line, f'{name} needs #include <{best}>'
                told.add(best)


def check_tree(root):
    # In VFS Samba's includes.h, which comes first, has them.
    names = [name for name in tree_files(root)
             if SOURCE.search(name) and '/corpus/' not in name and not name.startswith(VFS)]
    tree = Tree({name: (pathlib.Path(root) / name).read_text(errors='replace') for name in names})
    found = [(name, *violation) for name in names for violation in tree.check(name)]
    for name, line, what in found:
        print(f'{name}:{line}: {what}')
    print(f'{len(names)} sources checked, {len(found)} violations')
    return 0 if names and not found else 1


def self_check():
    texts = {
        'shm/base/log.h': '#include <string>\nstd::string text();\n',
        'shm/a.cc': '#include "shm/base/log.h"\nstd::string s; std::string_view v;\n',
        'shm/b.cc': '#include <vector>\nstd::vector<uint32_t> v;\nuint64_t w;\n',
        'shm/c.cc': '#include "shm/base/log.h"\n// uint32_t\n/* std::min(\n */ const char* s = "std::max uint8_t";\n',
        'shm/d.cc': '#include <cstdint>\n#include <vector>\nauto x = std::ranges::find(v, UINT32_MAX);\n',
        'shm/e.cc': '#include <atomic>\nauto x = std::memory_order_acquire; auto y = std::no_such_thing;\n',
        'shm/f.c': '#include <stdint.h>\nuint32_t x = EINVAL;\n',
        'shm/g.cc': '#include <cstdint>\nauto x = 0x1\'000\'000ULL + UINT32_MAX; char c = \'"\'; std::byte b{\'"\'};\n',
        'tests/unit/shm/x.h': '#include <cstdint>\n',
        'tests/unit/shm/x.cc': '#include "x.h"\nuint8_t x;\n',
    }
    expected = {
        'shm/b.cc': [(2, 'uint32_t needs #include <cstdint>')],
        'shm/d.cc': [(3, 'std::ranges::find needs #include <algorithm>')],
        'shm/e.cc': [(2, 'std::no_such_thing is not in the table of tests/rules/std_includes.py: add it to its header')],
        'shm/f.c': [(2, 'EINVAL needs #include <errno.h>')],
        'shm/g.cc': [(2, 'std::byte needs #include <cstddef>')],
    }
    tree, wrong = Tree(texts), 0
    for path in texts:
        found = list(tree.check(path))
        if found != expected.get(path, []):
            print(f'{path}: expected {expected.get(path, [])}, found {found}')
            wrong += 1
    print(f'{len(texts)} samples judged, {wrong} wrongly')
    return 1 if wrong else 0


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(self_check() if sys.argv[1] == '--self-check' else check_tree(sys.argv[1]))

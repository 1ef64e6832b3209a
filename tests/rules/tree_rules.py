#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Holds the rules of the source tree: who may include whom, and the few habits a machine can check.

    tree_rules.py ROOT           check the tree; one line "FILE:LINE: what" per violation, exit 1 if any
    tree_rules.py --self-check   show each rule a violating and a fitting sample; exit 1 if it misjudges one
"""

import pathlib
import re
import subprocess
import sys

# top directory -> what its files may include of the project: prefixes (ending in /) or single headers.
# tests/ and scripts/bench may include anything.
MAY_INCLUDE = {
    'protocol': ['protocol/'],
    'shm': ['shm/'],
    'daemon': ['daemon/', 'shm/', 'protocol/proxy/frames.h', 'protocol/proxy/cookie.h',  # what a registration says
               'protocol/proxy/smbdirect_area.h'],  # what a module in smbd says
    'workers': ['workers/', 'protocol/', 'shm/', 'daemon/contract/'],
}

# folder -> the folders of the same top directory whose files it may include, beside its own: the arrows of the house,
# all of them downward. A folder that is not here may not be, and one that is here includes nothing else.
PREFORK = ['daemon/os', 'daemon/contract', 'daemon/config', 'daemon/prefork']
FABRICS = ['workers/fabric', 'workers/fabric/iwarp', 'workers/fabric/verbs']
ARROWS = {
    'shm/base': [],
    'shm': ['shm/base'],
    'shm/loop': ['shm/base'],
    'daemon/os': [],
    'daemon/contract': [],
    'daemon/ctl': ['daemon/os'],
    'daemon/ctl/metrics': ['daemon/ctl'],
    'daemon/ctl/top': ['daemon/ctl'],
    'daemon/exporter': ['daemon/os', 'daemon/ctl', 'daemon/ctl/metrics'],
    'daemon/config': ['daemon/contract'],
    'daemon/prefork': ['daemon/os', 'daemon/contract', 'daemon/config'],
    'daemon/accept': PREFORK,
    'daemon/upstream': PREFORK,
    'daemon/upstream/transparent': PREFORK + ['daemon/upstream'],
    'daemon/upstream/handoff': PREFORK + ['daemon/upstream'],
    'daemon/clients': PREFORK,
    'daemon/control': PREFORK + ['daemon/accept', 'daemon/upstream', 'daemon/clients', 'daemon/ctl'],
    'daemon/takeover': PREFORK + ['daemon/accept'],
    'daemon/ctl/doctor': ['daemon/os', 'daemon/contract', 'daemon/config', 'daemon/ctl', 'daemon/upstream',
                          'daemon/upstream/transparent', 'daemon/upstream/handoff'],
    'daemon': None,  # sees all
    'workers/memory': [],
    'workers/stats': [],
    'workers/stream': ['workers/memory'],
    'workers/fabric': ['workers/memory'],
    'workers/fabric/iwarp': ['workers/memory', 'workers/fabric'],
    'workers/fabric/verbs': ['workers/memory', 'workers/fabric'],
    'workers/transport': ['workers/memory', 'workers/stats', 'workers/fabric'],
    'workers/upstream': [],
    'workers/process': [],
    'workers/session': ['workers/memory', 'workers/stats', 'workers/stream', 'workers/transport', 'workers/upstream'],
    'workers/smbd': ['workers/memory', 'workers/stats', 'workers/stream', 'workers/transport', 'workers/session'],
    'workers/native': ['workers/memory', 'workers/stats', 'workers/stream', 'workers/transport', 'workers/session', 'workers/upstream'],
    'workers/connect': ['workers/memory', 'workers/stats', 'workers/stream', 'workers/transport'] + FABRICS,
    'workers': None,
}
# What the build writes: where things are installed.
GENERATED = 'daemon/build_paths.h'

# The library for peers is the one part of protocol/ that does I/O; its header is C, as are all .c files and the constants
# that the module in smbd shares with us. Nothing but tests includes what is inside the library.
PEER = 'protocol/proxy/peer/'
PEER_HEADER = 'protocol/proxy/smbdirect_peer.h'
AREA_HEADER = 'protocol/proxy/smbdirect_area.h'

# The module for smbd: C, under Samba's licence, with Samba's headers, and with nothing of ours but AREA_HEADER. Nobody else
# includes what is in it.
VFS = 'protocol/proxy/vfs/'

# top directory -> system headers its files must not include, and why.
NO_SYSTEM = {
    'protocol': (r'uv\.h|sys/.*|netinet/.*|arpa/.*|unistd\.h|fcntl\.h|poll\.h|infiniband/.*|rdma/.*|thread|mutex|fstream|nlohmann/.*',
                 'protocol/ is pure: no I/O, no loop, no configuration'),
    'shm': (r'infiniband/.*|rdma/.*', 'shm/ knows no fabric'),
    'daemon': (r'infiniband/.*|rdma/rdma_(cma|verbs)\.h', 'the supervisor opens no verbs device'),
}

SOURCE = re.compile(r'\.(cc|h|c|cpp|hpp)$')
INCLUDE = re.compile(r'^\s*#\s*include\s*(?P<open>["<])(?P<name>[^">]+)[">]')
PROJECT_DIRS = ('protocol', 'shm', 'daemon', 'workers', 'tests', 'scripts')
# A test may open the namespace it tests, or that of its helpers.
OWN_IN_TEST = re.compile(r'tests/.*\.cc:\s*using\s+namespace\s+(?!std\b)')
# Enumerators of rdma-core and libuv.
FOREIGN_CASE = r'\bcase\s+(?:IBV|RDMA|UV)_\w+\s*:'
SPDX = 'SPDX-License-Identifier: MIT'
VFS_SPDX = 'SPDX-License-Identifier: GPL-3.0-or-later'

# The seam to the loop: only its files start what libuv watches or times, and hold what goes wrong with it (a timer due
# again at once, a descriptor closed before its handle).
LOOP = 'shm/loop'
LOOP_CALL = re.compile(r'\buv_(poll|timer)_(init|start)\b|\bdetail::Poll\b')
# In the daemon a watch is a member after the descriptor it watches: the members go in the reverse of their order.
DESCRIPTOR = re.compile(r'^\s*(std::optional<)?(shm::)?(UniqueFd|RdmaCm)>? \w+;')
WATCH = re.compile(r'^\s*std::(optional|unique_ptr)<(Read|Write)Watch> \w+;')
SCOPE = re.compile(r'^\s*(class|struct) [\w:]+[^;]*\{|^\s*\};')


def is_c(path):
    return path.endswith('.c') or path in (PEER_HEADER, AREA_HEADER) or path.startswith(VFS)


def permitted(name, allowed):
    return any(name.startswith(entry) if entry.endswith('/') else name == entry for entry in allowed)


def check_include(path, opening, name, siblings):
    """What is wrong with this include in this file, or nothing."""
    top = path.split('/')[0]
    if name.startswith('.') or '/../' in name:
        return f'include "{name}" by its path from the top of the tree'
    project = name.split('/')[0] in PROJECT_DIRS and '/' in name
    if project and opening == '<':
        return f'<{name}> is ours: write it with quotes'
    if opening == '"':
        # Beside its one user a test's helper goes by its name; a header of ours never does.
        if not project and top != 'tests' and '/'.join(path.split('/')[:-1] + [name]) in siblings:
            return f'include "{name}" by its path from the top of the tree'
        if project and top in MAY_INCLUDE and not permitted(name, MAY_INCLUDE[top]):
            return f'{top}/ must not include {name} (it may include: {", ".join(MAY_INCLUDE[top])})'
        if project and path.startswith(VFS) and not name.startswith(VFS) and name != AREA_HEADER:
            return f'{VFS} must not include {name}: of ours it may include {AREA_HEADER}'
        if project and name.startswith(VFS) and not path.startswith(VFS):
            return f'{name} is inside the module for smbd'
        if project and top in MAY_INCLUDE and name.startswith(PEER) and not path.startswith(PEER):
            return f'{name} is inside the library for peers'
        if project:
            return check_arrow(path, name)
    elif path.startswith((PEER, VFS)) or path == PEER_HEADER:
        return None
    elif top in NO_SYSTEM and re.fullmatch(NO_SYSTEM[top][0], name):
        return f'{top}/ must not include <{name}>: {NO_SYSTEM[top][1]}'
    elif name == 'uv.h' and top == 'shm' and folder_of(path) != LOOP:
        return f'of shm/ only {LOOP}/ may include <uv.h>'
    return None


def folder_of(path):
    return path.rpartition('/')[0]


def check_arrow(path, name):
    """What is wrong with the direction of this include, or nothing."""
    own, its = folder_of(path), folder_of(name)
    if own == its or its.split('/')[0] not in ('shm', 'daemon', 'workers') or own.split('/')[0] not in ('shm', 'daemon', 'workers'):
        return None
    if own not in ARROWS:
        return f'{own}/ has no arrows yet: say in ARROWS what it may include'
    # Of another top directory MAY_INCLUDE has said what may be included.
    if ARROWS[own] is None or name == GENERATED or own.split('/')[0] != its.split('/')[0] or its in ARROWS[own]:
        return None
    return f'{own}/ must not include {name} (of other folders it may include: {", ".join(ARROWS[own]) or "none"})'


def check_source(path, text, files):
    """Yields (line, what) for each violation in one C++ file. files: the set of all paths in the tree."""
    lines = text.splitlines()
    licence = VFS_SPDX if path.startswith(VFS) else SPDX
    head, comment = (f'/* {licence} */', '/*') if is_c(path) else ('// ' + SPDX, '//')
    if not lines or lines[0] != head:
        yield 1, f'the first line must be "{head}"'
    # A header of ours that others install is guarded as every C compiler understands.
    guard = '#ifndef ' + path.rsplit('/', 1)[-1].replace('.', '_').upper() if is_c(path) else '#pragma once'
    if path.endswith('.h') and guard not in lines:
        yield 1, f'a header needs {guard}'
    if path.endswith('.h') and not any(line.startswith(comment) for line in lines[1:6]):
        yield 2, 'a header opens with what it is and who owns it'
    first = None
    watch = None
    for number, line in enumerate(lines, 1):
        if SCOPE.match(line):
            watch = None
        elif WATCH.match(line):
            watch = number
        elif watch and DESCRIPTOR.match(line):
            yield watch, f'a watch is declared after the descriptors (line {number} has one): it must be gone before they are closed'
        match = INCLUDE.match(line)
        if match:
            wrong = check_include(path, match['open'], match['name'], files)
            if wrong:
                yield number, wrong
            first = first or (number, match['name'])
        elif LOOP_CALL.search(line) and path.split('/')[0] in MAY_INCLUDE and folder_of(path) != LOOP:
            yield number, f'{LOOP_CALL.search(line)[0]} belongs to the seam to the loop: {LOOP}/'
        elif re.match(r'\s*using\s+namespace\b', line) and not OWN_IN_TEST.match(path + ':' + line):
            yield number, 'no "using namespace"'
    for number in foreign_switches(text):
        yield number, 'a switch over an enumeration of a library needs default: its next release may add to it'
    own = re.sub(r'\.cc$', '.h', path)
    helper = own.rsplit('/', 1)[-1] if path.startswith('tests/') else own
    if path.endswith('.cc') and own in files and (first is None or first[1] not in (own, helper)):
        yield first[0] if first else 1, f'{own} must be the first include'


def foreign_switches(text):
    """Yields the line of each switch over an enumeration of a library's that has no default."""
    for match in re.finditer(r'\bswitch\s*\(', text):
        begin = end = text.find('{', match.end())
        depth = 0
        while end >= 0 and end < len(text):
            depth += {'{': 1, '}': -1}.get(text[end], 0)
            end += 1
            if depth == 0:
                break
        body = text[begin:end]
        if re.search(FOREIGN_CASE, body) and 'default:' not in body:
            yield text.count('\n', 0, match.start()) + 1


def check_script(path, text):
    head = text.splitlines()[:2]
    if not any(line == '# ' + SPDX for line in head):
        yield 1, f'the first line (after #!) must be "# {SPDX}"'


def tree_files(root):
    """The files git knows or would take; without git, all but build directories."""
    try:
        out = subprocess.run(['git', '-C', root, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
                             capture_output=True, check=True).stdout
        names = [name for name in out.decode().split('\0') if name]
    except (OSError, subprocess.CalledProcessError):
        names = [str(p.relative_to(root)) for p in pathlib.Path(root).rglob('*') if p.is_file()]
        names = [name for name in names if not name.startswith(('build', '.git/'))]
    return sorted(name for name in names if (pathlib.Path(root) / name).is_file())


def is_script(path, text):
    return path.endswith(('.py', '.sh')) or path.endswith('meson.build') or text.startswith('#!')


def check_tree(root):
    names = tree_files(root)
    files = set(names)
    found = []
    sources = 0
    for name in names:
        if '/corpus/' in name:
            continue
        data = (pathlib.Path(root) / name).read_bytes()
        if SOURCE.search(name):
            sources += 1
            found += [(name, *v) for v in check_source(name, data.decode('utf-8', 'replace'), files)]
        elif b'\0' not in data and is_script(name, text := data.decode('utf-8', 'replace')):
            found += [(name, *v) for v in check_script(name, text)]
    for name, line, what in found:
        print(f'{name}:{line}: {what}')
    print(f'{sources} C++ sources of {len(names)} files checked, {len(found)} violations')
    # A tree without sources means that we looked in the wrong place.
    return 0 if sources and not found else 1


def self_check():
    head = '// ' + SPDX + '\n'
    hdr = head + '// What it is.\n#pragma once\n'
    c_head = '/* ' + SPDX + ' */\n'
    gpl_head = '/* ' + VFS_SPDX + ' */\n'
    c_hdr = c_head + '/*\n * What it is.\n */\n#ifndef SMBDIRECT_PEER_H\n'
    files = {'workers/session/session.h', 'workers/session/session.cc', 'protocol/smb2/pdu.h', 'daemon/contract/contract.h'}
    bad = [
        ('protocol/smb2/pdu.h', hdr + '#include "shm/base/result.h"\n', 'must not include shm/base/result.h'),
        ('protocol/smb2/pdu.h', hdr + '#include <uv.h>\n', 'must not include <uv.h>'),
        ('protocol/smb2/pdu.h', hdr + '#  include "workers/session/session.h"\n', 'must not include workers/session/session.h'),
        ('shm/base/log.cc', head + '#include "protocol/smb2/pdu.h"\n', 'must not include protocol/smb2/pdu.h'),
        ('shm/base/log.cc', head + '#include <infiniband/verbs.h>\n', 'must not include <infiniband/verbs.h>'),
        ('daemon/main.cc', head + '#include "workers/session/session.h"\n', 'must not include workers/session/session.h'),
        ('workers/loop.cc', head + '#include "daemon/config/pool_file.h"\n', 'must not include daemon/config/pool_file.h'),
        ('workers/loop.cc', head + '#include "../daemon/contract/contract.h"\n', 'by its path from the top'),
        ('workers/session/loop.cc', head + '#include "session.h"\n', 'by its path from the top'),
        ('workers/loop.cc', head + '#include <daemon/contract/contract.h>\n', 'write it with quotes'),
        ('workers/session/session.cc', head + '#include <array>\n#include "workers/session/session.h"\n', 'must be the first include'),
        ('workers/session/session.h', head + '// What it is.\n', 'needs #pragma once'),
        ('workers/loop.cc', '#include <array>\n', 'the first line must be'),
        ('workers/loop.cc', head + 'using namespace smbdirect::shm;\n', 'no "using namespace"'),
        ('tests/unit/x_test.cc', head + 'using namespace std;\n', 'no "using namespace"'),
        ('protocol/proxy/peer/inbox.cc', head + '#include "shm/base/unique_fd.h"\n', 'must not include shm/base/unique_fd.h'),
        ('protocol/proxy/frames.cc', head + '#include <sys/socket.h>\n', 'must not include <sys/socket.h>'),
        ('workers/loop.cc', head + '#include "protocol/proxy/peer/inbox.h"\n', 'is inside the library for peers'),
        ('workers/loop.cc', head + 'int f(int x) {\n  switch (x) {\n    case IBV_QPS_INIT: {\n    }\n  }\n}\n', 'needs default'),
        (PEER_HEADER, c_head + '/* What it is. */\n#pragma once\n', 'needs #ifndef SMBDIRECT_PEER_H'),
        (PEER_HEADER, hdr + '#ifndef SMBDIRECT_PEER_H\n/* What it is. */\n', 'the first line must be'),
        ('tests/unit/x.c', head, 'the first line must be'),
        ('tests/unit/x.c', gpl_head, 'the first line must be'),
        (VFS + 'area.c', c_head + '#include "includes.h"\n', 'the first line must be'),
        (VFS + 'area.c', gpl_head + '#include "../libcli/smb/smb_common.h"\n', 'by its path from the top'),
        (VFS + 'area.c', gpl_head + '#include "protocol/proxy/smbdirect_peer.h"\n', 'must not include protocol/proxy/smbdirect_peer.h'),
        (VFS + 'area.h', gpl_head + '/* What it is. */\n', 'needs #ifndef AREA_H'),
        ('protocol/proxy/frames.cc', head + '#include "protocol/proxy/vfs/area.h"\n', 'is inside the module for smbd'),
        ('workers/session/session.cc', head + '#include "workers/session/session.h"\n  uv_poll_init(&loop, &poll_, fd);\n', 'belongs to the seam'),
        ('workers/loop.cc', head + '  uv_timer_start(&timer_, tick, 0, 0);\n', 'belongs to the seam'),
        ('workers/loop.cc', head + '  detail::Poll poll_;\n', 'belongs to the seam'),
        ('daemon/main.h', hdr + 'struct Peer {\n  std::optional<ReadWatch> watch;\n  shm::UniqueFd fd;\n};\n', 'a watch is declared after'),
        ('daemon/main.h', hdr + 'struct Peer {\n  std::unique_ptr<WriteWatch> watch;\n  std::optional<RdmaCm> file_;\n};\n', 'a watch is declared after'),
        # Each arrow, against its direction.
        ('shm/base/log.cc', head + '#include "shm/memfd.h"\n', 'shm/base/ must not include shm/memfd.h'),
        ('shm/memfd.cc', head + '#include "shm/loop/loop.h"\n', 'shm/ must not include shm/loop/loop.h'),
        ('shm/memfd.cc', head + '#include <uv.h>\n', 'only shm/loop/ may include <uv.h>'),
        ('daemon/os/netlink.cc', head + '#include "daemon/contract/contract.h"\n', 'daemon/os/ must not include'),
        ('daemon/contract/codec.cc', head + '#include "daemon/config/pool_file.h"\n', 'daemon/contract/ must not include'),
        ('daemon/ctl/client.cc', head + '#include "daemon/control/control.h"\n', 'daemon/ctl/ must not include'),
        ('daemon/ctl/render.cc', head + '#include "daemon/ctl/doctor/doctor.h"\n', 'daemon/ctl/ must not include'),
        ('daemon/ctl/doctor/a.cc', head + '#include "daemon/control/control.h"\n', 'daemon/ctl/doctor/ must not include'),
        ('daemon/config/pool_file.cc', head + '#include "daemon/os/netlink.h"\n', 'daemon/config/ must not include'),
        ('daemon/prefork/connection_table.cc', head + '#include "daemon/accept/offers.h"\n', 'daemon/prefork/ must not include'),
        ('daemon/accept/offers.cc', head + '#include "daemon/clients/client_registry.h"\n', 'daemon/accept/ must not include'),
        ('daemon/clients/client_registry.cc', head + '#include "daemon/upstream/smbd_requests.h"\n', 'daemon/clients/ must not include'),
        ('daemon/upstream/smbd_requests.cc', head + '#include "daemon/upstream/handoff/handoff_connector.h"\n', 'daemon/upstream/ must not include'),
        ('daemon/upstream/transparent/a.cc', head + '#include "daemon/upstream/handoff/handoff_connector.h"\n', 'transparent/ must not include'),
        ('daemon/upstream/handoff/a.cc', head + '#include "daemon/upstream/transparent/source_ports.h"\n', 'handoff/ must not include'),
        ('daemon/control/control.cc', head + '#include "daemon/supervisor.h"\n', 'daemon/control/ must not include'),
        ('workers/session/loop.cc', head + '#include "workers/smbd/smbd_exchange.h"\n', 'workers/session/ must not include'),
        ('workers/session/session.h', hdr + '#include "workers/native/peer_finder.h"\n', 'workers/session/ must not include'),
        ('workers/transport/transport.cc', head + '#include "workers/session/session.h"\n', 'workers/transport/ must not include'),
        ('workers/fabric/fabric.h', hdr + '#include "workers/transport/transport.h"\n', 'workers/fabric/ must not include'),
        ('workers/fabric/verbs/device.cc', head + '#include "workers/fabric/iwarp/iwarp.h"\n', 'verbs/ must not include'),
        ('workers/smbd/request_path.cc', head + '#include "workers/native/introduction.h"\n', 'workers/smbd/ must not include'),
        ('workers/native/introduction.cc', head + '#include "workers/smbd/request_path.h"\n', 'workers/native/ must not include'),
        ('workers/connect/session.cc', head + '#include "workers/session/session.h"\n', 'workers/connect/ must not include'),
        ('workers/memory/slab.cc', head + '#include "workers/stream/outbox.h"\n', 'workers/memory/ must not include'),
        ('workers/process/privileges.cc', head + '#include "workers/worker.h"\n', 'workers/process/ must not include'),
        ('workers/new_folder/a.cc', head + '#include "workers/worker.h"\n', 'has no arrows yet'),
    ]
    good = [
        ('protocol/smb2/pdu.h', hdr + '#include <span>\n\n#include "protocol/smb2/classify.h"\n'),
        ('workers/session/session.cc', head + '#include "workers/session/session.h"\n\n#include <uv.h>\n\n#include "daemon/contract/contract.h"\n'),
        ('daemon/main.cc', head + '#include "daemon/contract/contract.h"\n#include "shm/base/log.h"\n'),
        ('tests/unit/x_test.cc', head + '#include "workers/session/session.h"\n#include "daemon/config/pool_file.h"\n'),
        ('tests/unit/x_test.cc', head + 'using namespace smbdirect::shm;\n'),
        ('tests/unit/x_test.cc', head + '#include "protocol/proxy/peer/inbox.h"\n'),
        ('workers/loop.cc', head + 'void f(int x) {\n  switch (x) {\n    case UV_EOF: {\n    }\n    default:\n  }\n}\n'),
        ('workers/loop.cc', head + 'void f(Kind x) {\n  switch (x) {\n    case Kind::one:\n      break;\n  }\n}\n'),
        ('tests/unit/x.c', c_head + '#include "protocol/proxy/smbdirect_peer.h"\n'),
        (VFS + 'area.c', gpl_head + '#include "includes.h"\n#include <sys/mman.h>\n\n#include "protocol/proxy/vfs/area.h"\n'),
        (VFS + 'area.h', gpl_head + '/* What it is. */\n#ifndef AREA_H\n#include "protocol/proxy/smbdirect_area.h"\n'),
        (PEER_HEADER, c_hdr + '#include <sys/socket.h>\n'),
        ('protocol/proxy/peer/inbox.cc', head + '#include "protocol/proxy/peer/inbox.h"\n\n#include <sys/socket.h>\n'),
        ('shm/loop/watched.cc', head + '  uv_poll_init(&loop, &poll_, fd);\n  uv_timer_start(&timer_, tick, 1, 0);\n'),
        ('tests/unit/x_test.cc', head + '  uv_timer_start(&timer_, tick, 1, 0);\n'),
        ('daemon/main.h', hdr + 'struct Peer {\n  shm::UniqueFd fd;\n  std::optional<ReadWatch> watch;\n};\nstruct Other {\n  shm::UniqueFd fd;\n};\n'),
    ]
    wrong = 0
    for path, text, expected in bad:
        found = [what for _, what in check_source(path, text, files)]
        if len(found) != 1 or expected not in found[0]:
            print(f'{path}: expected one violation "{expected}", found {found}')
            wrong += 1
    for path, text in good:
        found = list(check_source(path, text, files))
        if found:
            print(f'{path}: fits, but was refused: {found}')
            wrong += 1
    print(f'{len(bad) + len(good)} samples judged, {wrong} wrongly')
    return 1 if wrong else 0


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(self_check() if sys.argv[1] == '--self-check' else check_tree(sys.argv[1]))

# SPDX-License-Identifier: MIT
"""Which tests do not run where, or not beside others, and why."""

# Cases that valgrind itself defeats: it keeps descriptors of its own, and slows what must end in seconds.
NOT_UNDER_VALGRIND = {
    'so are windows*': 'asks the kernel about an address that is gone, on purpose',
    'a confined process*': 'valgrind does not survive an execve that fails, and knows no seccomp(2)',
    'threads that were started before are confined*': 'valgrind knows no seccomp(2)',
    'disconnect sends what was posted*': 'the fabric gives an orderly close 3 s',
    'a descriptor that finds no room*': "valgrind's own descriptors defeat RLIMIT_NOFILE",
    'out of descriptors*': "valgrind's own descriptors defeat RLIMIT_NOFILE",
    'a worker without descriptors*': "valgrind's own descriptors defeat RLIMIT_NOFILE",
    'while the worker has no descriptor left*': "valgrind's own descriptors defeat RLIMIT_NOFILE",
    'the link goes on for the area*': "valgrind's own descriptors defeat RLIMIT_NOFILE",
    'a process that ends takes its clients along*': 'valgrind knows no pidfd_open(2)',
    **dict.fromkeys([
        'a process that serves a client beside another*',
        'streams of one pair of addresses in two networks*',
        'a process has the streams that it has*',
        'the link is to the module of the process*',
        'of many smbds it is the right one*',
        'there is no module: a directory*',
        'a module that does not accept*',
        'a worker may ask for its own connections*',
        'what nobody waits for any more*',
        'a worker that asks without end*',
        'however many wait*',
        'of smbds with many open files*',
    ], 'valgrind knows no pidfd_open(2)'),
}

# UBSan reads what an object is through a pipe of its own, and takes "no descriptor left" for "no object".
NOT_WITH_UBSAN = {'out of descriptors*': "UBSan's look at an object's type needs descriptors"}

# The long parity lists; the module in stock smbd, which has no sanitizer; what takes the same ways through the worker as
# test_area; and tests of scripts. They ran before, and here the sanitizers watch all else.
NOT_WITH_ASAN = ('test_torture.py', 'vfs', 'test_area_answers.py', 'test_area_modes.py', 'test_direct_rules.py',
                 'test_direct_times.py', 'test_direct_disk_errors.py', 'test_direct_compound.py', 'test_direct_many_breaks.py',
                 'test_fresh.py', 'test_guest_verdicts.py', 'test_package.py', 'test_ctdb.py', 'test_ctdb_script.py', 'test_lanes.py')

# Files whose tests have to do with time, memory or processors as much as with what is right, or with something that all of
# the machine has (huge pages): nothing runs beside them, whatever --lanes says.
ALONE = ['test_area.py', 'test_bad_input_limits.py', 'test_bystander.py', 'test_bystander_hosts.py', 'test_chosen_ids.py',
         'test_conformance_negotiate.py', 'test_conformance_timers.py', 'test_control_crowds.py', 'test_ctdb.py', 'test_day.py',
         'test_described_memory.py', 'test_direct_compound.py', 'test_direct_long_compound.py', 'test_direct_many_breaks.py',
         'test_memory.py', 'test_places.py', 'test_progress.py', 'test_soak.py', 'test_taken_worker.py', 'test_worker_death.py',
         'vfs/test_bystanders.py']

"""Who may make which system call: the lists that `seccomp.py` compiles, with the reason for each refusal.

SPACE (or NESTING, or BARE) is around everything in a space. ZYGOTE, INSTANCE, ALONE and SCRIPT lie on top of it and
only take away.
"""

from __future__ import annotations

import errno

import msgspec


class Condition(msgspec.Struct, frozen=True):
    """Allow when a word of an argument, under `mask`, is one of `values` (`inverted`: none of them), else refuse."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    inverted: bool = False
    high_word: bool = False
    """Look at the upper 32 bits; the kernel itself ignores them in arguments that are an int."""
    error: int = errno.EPERM


class Refuse(msgspec.Struct, frozen=True):
    """Refuse always, with this errno."""

    error: int = errno.EPERM


Rule = tuple[Condition, ...] | Refuse
"""The empty tuple allows."""

OWN_PID = 0x7FFFFFF1
"""Stands in a filter for the id of the process that will install it."""

_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET,TIME}
_CLONE_THREAD = 0x00010000
_NEW_USER_AND_MOUNTS = 0x10020000
_MS_BIND = 0x1000
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_F_SETPIPE_SZ = 1031
_OWNING = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX
_F_SETLEASE, _F_NOTIFY = 1024, 1026
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
_SOCK_STREAM, _SOCK_SEQPACKET, _SOCK_TYPE_MASK = 1, 5, 0xF
_MAP_SHARED_ANONYMOUS = 0x21

_ALLOWED = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range dup dup2 dup3
    open openat openat2 creat access faccessat faccessat2 stat fstat lstat newfstatat statx statfs fstatfs
    readlink readlinkat getdents getdents64 getcwd chdir fchdir umask
    mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat
    mknod mknodat truncate ftruncate fallocate fadvise64 readahead
    chmod fchmod fchmodat chown fchown lchown fchownat utime utimes utimensat futimesat
    fsync fdatasync sync_file_range flock copy_file_range sendfile splice tee vmsplice
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
    pipe pipe2 eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime signalfd signalfd4
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2

    mmap munmap mprotect mremap madvise brk msync mincore mlock munlock mlock2 membarrier rseq
    pkey_alloc pkey_free pkey_mprotect
    futex futex_waitv set_robust_list get_robust_list set_tid_address

    fork vfork execve execveat exit exit_group wait4 waitid
    kill tgkill tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal
    rt_sigaction rt_sigprocmask rt_sigpending rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack pause
    restart_syscall
    getpid gettid getppid getpgid getpgrp getsid setpgid setsid
    getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setresuid setresgid setreuid setregid
    setgroups setfsuid setfsgid capget capset
    getrlimit setrlimit prlimit64 getrusage times sysinfo uname getcpu getpriority setpriority
    sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_setscheduler
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_getattr ioprio_get get_mempolicy
    arch_prctl seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self

    nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time getitimer setitimer alarm
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete getrandom

    connect bind listen accept accept4 getsockname getpeername setsockopt getsockopt shutdown
    sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg
"""

_REFUSED = """
    mount umount2 pivot_root chroot open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr swapon swapoff
    unshare setns sethostname setdomainname reboot kexec_load kexec_file_load init_module finit_module delete_module
    ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp process_mrelease
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
    keyctl add_key request_key
    memfd_create memfd_secret shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl
    mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    mbind set_mempolicy set_mempolicy_home_node migrate_pages move_pages mlockall munlockall
    setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr name_to_handle_at open_by_handle_at
    acct settimeofday clock_settime clock_adjtime adjtimex syslog quotactl quotactl_fd iopl ioperm modify_ldt vhangup
    fanotify_init fanotify_mark lookup_dcookie ustat sysfs sync syncfs sched_setattr sched_setparam ioprio_set
    sched_setaffinity io_setup io_submit io_destroy io_getevents io_cancel uselib personality
"""
"""Known and refused with EPERM; what no list names is answered with ENOSYS, so that libraries fall back."""

SPACE: dict[str, Rule] = {
    **dict.fromkeys(_ALLOWED.split(), ()),
    **dict.fromkeys(_REFUSED.split(), Refuse()),
    # Its flags lie in memory, where a filter cannot look: libraries fall back to clone.
    "clone3": Refuse(errno.ENOSYS),
    "clone": (Condition(0, (0,), mask=_NEW_NAMESPACES),),
    # AF_NETLINK and AF_VSOCK can be made in an empty network namespace, and reach the host's kernel.
    "socket": (Condition(0, (_AF_UNIX, _AF_INET, _AF_INET6), error=errno.EAFNOSUPPORT),),
    "socketpair": (Condition(0, (_AF_UNIX,), error=errno.EAFNOSUPPORT),),
    # Both push characters into a terminal, as if its user had typed them.
    "ioctl": (Condition(1, (_TIOCSTI, _TIOCLINUX), inverted=True),),
    # Pipe pages are counted by the host's user: one guest could take them all. A lease on a file that the host shares
    # makes whoever opens it wait for the better part of a minute; a watch on a folder tells what others do.
    "fcntl": (Condition(1, (_F_SETPIPE_SZ, _F_SETLEASE, _F_NOTIFY), inverted=True),),
    # PR_SET_MM, PR_SET_PTRACER and their like stay out; hardening, names and PDEATHSIG are in.
    "prctl": (Condition(0, (1, 2, 3, 4, 8, 15, 16, 21, 22, 23, 24, 27, 29, 30, 38, 39, 40, 47), error=errno.EINVAL),),
}

NESTING: dict[str, Rule] = {
    # Where Landlock is missing, each instance gets a user and a mount namespace: that pair only, and nothing but binds,
    # so no new file system is ever mounted, whose memory nobody would count.
    **SPACE,
    "unshare": (Condition(0, (_NEW_USER_AND_MOUNTS,)),),
    "mount": (Condition(3, (_MS_BIND,), mask=_MS_BIND),),
}

_SENDS_NO_SIGNALS: dict[str, Rule] = {
    # Who owns a descriptor gets a signal of the sender's choice when something comes in.
    "fcntl": (Condition(1, _OWNING, inverted=True),),
    "ioctl": (Condition(1, (_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP), inverted=True),),
}

_KEEPS_LIMITS: dict[str, Rule] = {
    "setrlimit": Refuse(),
    "prlimit64": (Condition(2, (0,)), Condition(2, (0,), high_word=True)),
}

_THREADS_ONLY: Rule = (Condition(0, (_CLONE_THREAD,), mask=_CLONE_THREAD),)
_NO_SHARED_ANONYMOUS: Rule = (
    # Shared memory without a name counts against no resource limit.
    Condition(3, (_MAP_SHARED_ANONYMOUS,), mask=_MAP_SHARED_ANONYMOUS, inverted=True, error=errno.ENOMEM),
)
_RUN_PROGRAMS = ("execve", "execveat", "vfork")
_MAKE_SOCKETS = ("socket", "connect", "bind", "listen", "accept", "accept4")
_SIGNAL = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")

BARE: dict[str, Rule] = {
    # Without namespaces paths, process ids and users are the host's. Here is what Landlock does not see to.
    **SPACE,
    # The rights, times and owners of files, also those that are not its own.
    **dict.fromkeys(["chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat"], Refuse()),
    **dict.fromkeys(["utime", "utimes", "utimensat", "futimesat", "getxattr", "lgetxattr", "fgetxattr"], Refuse()),
    **dict.fromkeys(["listxattr", "llistxattr", "flistxattr"], Refuse()),
    # What others do with files.
    **dict.fromkeys(["inotify_init", "inotify_init1", "inotify_add_watch"], Refuse()),
    # Other processes of the host's user: signals go to what installs this filter only, and not even from its children.
    **dict.fromkeys(_SIGNAL, (Condition(0, (OWN_PID,)),)),
    **dict.fromkeys(["tkill", "pidfd_send_signal", "setpriority", "sched_setscheduler"], Refuse()),
    "prlimit64": (Condition(0, (0, OWN_PID)),),
    "fcntl": (Condition(1, (_F_SETPIPE_SZ, _F_SETLEASE, _F_NOTIFY, *_OWNING), inverted=True),),
    # Terminals' sizes and modes, what may be read, blocking, closing on exec: nothing of a file system or a device.
    "ioctl": (Condition(1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),),
    # The host's network. A pair of datagram sockets would do: who has one may send to any other that has a path.
    **dict.fromkeys([*_MAKE_SOCKETS, *_RUN_PROGRAMS], Refuse()),
    "socketpair": (
        Condition(0, (_AF_UNIX,), error=errno.EAFNOSUPPORT),
        Condition(1, (_SOCK_STREAM, _SOCK_SEQPACKET), mask=_SOCK_TYPE_MASK),
    ),
}

ZYGOTE: dict[str, Rule] = {
    # Module code runs here. Fork, prlimit and the hardening calls must stay, for the instances are made with them.
    **dict.fromkeys(_RUN_PROGRAMS, Refuse()),
    **dict.fromkeys(_MAKE_SOCKETS, Refuse()),
    "mmap": _NO_SHARED_ANONYMOUS,
}

INSTANCE: dict[str, Rule] = {
    **dict.fromkeys(["fork", *_RUN_PROGRAMS, "setsid", "setpgid"], Refuse()),
    **dict.fromkeys(_MAKE_SOCKETS, Refuse()),
    **dict.fromkeys(["pidfd_open", "pidfd_send_signal", "tkill", "seccomp"], Refuse()),
    # Allowed by NESTING.
    **dict.fromkeys(["unshare", "mount"], Refuse()),
    # These take the id of a neighbour.
    **dict.fromkeys(["setpriority", "sched_setscheduler"], Refuse()),
    **_KEEPS_LIMITS,
    "clone": _THREADS_ONLY,
    # Signals to itself only: the wall between neighbours on kernels whose Landlock has no scopes.
    **dict.fromkeys(_SIGNAL, (Condition(0, (OWN_PID,)),)),
    **_SENDS_NO_SIGNALS,
    "mmap": _NO_SHARED_ANONYMOUS,
}

ALONE: dict[str, Rule] = {
    # A daemon of one process. One of several loses nothing beyond SPACE.
    **dict.fromkeys(["fork", "vfork"], Refuse()),
    "clone": _THREADS_ONLY,
    "mmap": _NO_SHARED_ANONYMOUS,
}

SCRIPT: dict[str, Rule] = {**ALONE, **dict.fromkeys(_RUN_PROGRAMS, Refuse())}
"""A script of one process: it runs in the process that was hardened, so it need not exec either."""

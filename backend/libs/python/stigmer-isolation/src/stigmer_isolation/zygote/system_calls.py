"""The numbers of the system calls that `seccomp_rules` names, which differ between architectures.

Taken from the kernel's `asm/unistd_64.h` and `asm-generic/unistd.h` (aarch64); a test compares them.
"""

from typing import Final

# name, x86_64, aarch64; a dash where the architecture has no such call
_TABLE: Final = """
ptrace 101 117
process_vm_readv 310 270
process_vm_writev 311 271
pidfd_getfd 438 438
kcmp 312 272
process_madvise 440 440
process_mrelease 448 448
perf_event_open 298 241
bpf 321 280
userfaultfd 323 282
io_uring_setup 425 425
io_uring_enter 426 426
io_uring_register 427 427
add_key 248 217
request_key 249 218
keyctl 250 219
mount 165 40
umount2 166 39
mount_setattr 442 442
move_mount 429 429
open_tree 428 428
fsopen 430 430
fsconfig 431 431
fsmount 432 432
fspick 433 433
pivot_root 155 41
chroot 161 51
setns 308 268
unshare 272 97
clone 56 220
clone3 435 435
shmget 29 194
shmat 30 196
shmctl 31 195
semget 64 190
semop 65 193
semctl 66 191
semtimedop 220 192
msgget 68 186
msgsnd 69 189
msgrcv 70 188
msgctl 71 187
mq_open 240 180
mq_unlink 241 181
init_module 175 105
finit_module 313 273
delete_module 176 106
kexec_load 246 104
kexec_file_load 320 294
swapon 167 224
swapoff 168 225
reboot 169 142
open_by_handle_at 304 265
fanotify_init 300 262
acct 163 89
quotactl 179 60
quotactl_fd 443 443
settimeofday 164 170
clock_settime 227 112
clock_adjtime 305 266
adjtimex 159 171
sethostname 170 161
setdomainname 171 162
syslog 103 116
vhangup 153 58
iopl 172 -
ioperm 173 -
migrate_pages 256 238
move_pages 279 239
prlimit64 302 261
sched_setscheduler 144 119
sched_setparam 142 118
sched_setattr 314 274
sched_setaffinity 203 122
setpriority 141 140
ioprio_set 251 30
ioctl 16 29
socket 41 198
socketpair 53 199
bind 49 200
listen 50 201
sendto 44 206
sendmsg 46 211
sendmmsg 307 269
setsockopt 54 208
inotify_init 253 -
inotify_init1 294 26
inotify_add_watch 254 27
setxattr 188 5
lsetxattr 189 6
fsetxattr 190 7
removexattr 197 14
lremovexattr 198 15
fremovexattr 199 16
kill 62 129
tkill 200 130
tgkill 234 131
rt_sigqueueinfo 129 138
rt_tgsigqueueinfo 297 240
pidfd_send_signal 424 424
fcntl 72 25
truncate 76 45
open 2 -
openat 257 56
openat2 437 437
creat 85 -
chmod 90 -
fchmod 91 52
fchmodat 268 53
fchmodat2 452 452
mknod 133 -
mknodat 259 33
"""

LAST_KNOWN: Final = 462
"""Calls with a higher number (after Linux 6.10) were not looked at; see `seccomp_rules`."""


def numbers_for(machine: str) -> dict[str, int]:
    """Number by name; empty for an architecture without a table."""
    columns = {"x86_64": 1, "aarch64": 2}
    if machine not in columns:
        return {}
    rows = (line.split() for line in _TABLE.split("\n") if line)
    return {row[0]: int(row[columns[machine]]) for row in rows if row[columns[machine]] != "-"}

"""The process that starts commands, and what it tells the kernel before it executes one. Linux only.

Elsewhere it does nothing. None of it needs privileges, and what was applied can never be taken back by the
process it holds. Each layer closes what the others leave open:

    landlock       which files and TCP ports may be used, and that nothing outside is signalled or traced
    seccomp        which system calls may be made: no sockets, no namespaces, nothing aimed at other processes
    capabilities   no privileges are left, not even root's
    limits         how many processes, how much memory, how large a file; first in line when memory runs out
    process_tree   everything the command started is found and killed when it ends

`policy` says what one command gets, `layers` applies it in the right order, `kernel` is the way to system
calls that Python has no function for. `main` is that process: it loads this folder and as little of the
standard library as can be, since each fork copies the page tables of all of it.
"""

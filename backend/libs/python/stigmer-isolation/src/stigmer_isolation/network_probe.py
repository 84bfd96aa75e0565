"""A program that tries, as a command, every known way past what its network grants.

Landlock mediates bind(2) and connect(2) of TCP sockets and nothing else (Linux 6.18,
security/landlock/net.c). So all that is not TCP, and each way to connect or listen without these two calls,
is a probe here. The self-test uses it, and so do tests, in every environment.
"""

from typing import Final

NETWORK_PROBE: Final = r"""
import ctypes, errno, json, os, socket, struct, sys
network, tcp_port, udp_port, own_port = sys.argv[1], *map(int, sys.argv[2:5])
here = sys.argv[5] if len(sys.argv) > 5 else "."
libc = ctypes.CDLL(None, use_errno=True)
MPTCP, SMC, SCTP, DCCP, UDPLITE, FASTOPEN = 262, 256, 132, 33, 136, 0x20000000
INET, INET6, STREAM, DATAGRAM, SEQPACKET = 2, 10, 1, 2, 5
LOOPBACK = {INET: ("127.0.0.1", tcp_port), INET6: ("::1", tcp_port)}
done = []
tried = 0

def attempt(name, way):
    global tried
    tried += 1
    try:
        if way() is not False:
            done.append(name)
    except OSError:
        pass

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def made(*triple):
    one = socket.socket(*triple)
    one.settimeout(2)
    return one

def arrives(one, data=b"x"):
    # What a connection not yet made answers differs; that one is made, its peer tells.
    one.getpeername()
    one.send(data)

def connect(family, protocol=0, options=()):
    with made(family, STREAM, protocol) as one:
        for option in options:
            one.setsockopt(*option)
        one.connect(LOOPBACK[family])
        arrives(one)

def address(family):
    host, port = LOOPBACK[family]
    packed = socket.inet_pton(family, host)
    if family == INET:
        return struct.pack("=H", INET) + struct.pack("!H", port) + packed + bytes(8)
    return struct.pack("=H", INET6) + struct.pack("!HI", port, 0) + packed + bytes(4)

def fast_sendto(family, protocol=0):
    with made(family, STREAM, protocol) as one:
        one.settimeout(None)
        one.sendto(b"x", FASTOPEN, LOOPBACK[family])
        arrives(one)

class Message(ctypes.Structure):
    _fields_ = (("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32), ("vector", ctypes.c_void_p),
                ("vectors", ctypes.c_size_t), ("control", ctypes.c_void_p),
                ("control_length", ctypes.c_size_t), ("flags", ctypes.c_int))

class OfMany(ctypes.Structure):
    _fields_ = (("message", Message), ("length", ctypes.c_uint32))

def message(family):
    name, data = ctypes.create_string_buffer(address(family)), ctypes.create_string_buffer(b"x")
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(data), 1)
    kept.extend((name, data, vector))
    return Message(ctypes.addressof(name), len(name) - 1, ctypes.addressof(vector), 1, None, 0, FASTOPEN)

kept = []

def fast_sendmsg(family):
    with made(family, STREAM) as one:
        one.settimeout(None)
        checked(libc.sendmsg(one.fileno(), ctypes.byref(message(family)), FASTOPEN))
        arrives(one)

def fast_sendmmsg(family):
    with made(family, STREAM) as one:
        one.settimeout(None)
        many = OfMany(message(family), 0)
        checked(libc.sendmmsg(one.fileno(), ctypes.byref(many), 1, FASTOPEN))
        arrives(one)

def listen(family, protocol=0, bound=False):
    with made(family, STREAM, protocol) as one:
        if bound:
            one.bind((LOOPBACK[family][0], own_port))
        one.listen()
        return bool(one.getsockname()[1])

def bind(family, kind, protocol=0):
    with made(family, kind, protocol) as one:
        one.bind((LOOPBACK[family][0], own_port))

def datagram(family, protocol=0):
    with made(family, DATAGRAM, protocol) as one:
        one.sendto(b"x", (LOOPBACK[family][0], udp_port))

def repaired(family):
    with made(family, STREAM) as one:
        one.setsockopt(6, 19, 1)  # TCP_REPAIR: a connection without a handshake

def layered(family, protocol):
    with made(family, STREAM) as one:
        one.setsockopt(6, 31, protocol)  # TCP_ULP

def only_made(*triple):
    made(*triple).close()

def pair(kind):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.close(), theirs.close()

def of_a_pair(way):
    ours, theirs = socket.socketpair(socket.AF_UNIX, STREAM)
    with ours, theirs:
        way(ours, theirs)

def connected_again(ours, theirs):
    theirs.close()
    ours.connect("\0stigmer-probe")

def bound(ours, theirs):
    ours.bind(here + "/bound-by-a-pair")
    os.unlink(here + "/bound-by-a-pair")

def listening(ours, theirs):
    ours.listen()

for family, version in ((INET, "IPv4"), (INET6, "IPv6")):
    if network != "all":
        attempt(f"connect with TCP, {version}", lambda: connect(family))
        attempt(f"listen without bind, {version}", lambda: listen(family))
        attempt(f"listen after bind, {version}", lambda: listen(family, bound=True))
        attempt(f"fast open by sendto, {version}", lambda: fast_sendto(family))
        attempt(f"fast open by sendmsg, {version}", lambda: fast_sendmsg(family))
        attempt(f"fast open by sendmmsg, {version}", lambda: fast_sendmmsg(family))
        attempt(f"fast open by connect, {version}", lambda: connect(family, 0, ((6, 30, 1),)))
        attempt(f"send a datagram, {version}", lambda: datagram(family))
        attempt(f"bind a datagram socket, {version}", lambda: bind(family, DATAGRAM))
        attempt(f"bring a connection in by repair, {version}", lambda: repaired(family))
        for protocol in (b"tls", b"smc", b"mptcp", b"espintcp"):
            attempt(f"layer {protocol.decode()} over TCP, {version}", lambda: layered(family, protocol))
    attempt(f"connect with MPTCP, {version}", lambda: connect(family, MPTCP))
    attempt(f"fast open with MPTCP, {version}", lambda: fast_sendto(family, MPTCP))
    attempt(f"listen with MPTCP, {version}", lambda: listen(family, MPTCP))
    attempt(f"listen with MPTCP after bind, {version}", lambda: listen(family, MPTCP, bound=True))
    attempt(f"send a datagram with UDP-Lite, {version}", lambda: datagram(family, UDPLITE))
    for name, kind, protocol in (
        ("SMC", STREAM, SMC), ("SCTP", STREAM, SCTP), ("SCTP packets", SEQPACKET, SCTP), ("DCCP", 6, DCCP),
        ("ping", DATAGRAM, 1 if family == INET else 58), ("L2TP", DATAGRAM, 115), ("raw", 3, 255),
        ("raw TCP", 3, 6), ("packets", 10, 0),
    ):
        attempt(f"make a socket of {name}, {version}", lambda: only_made(family, kind, protocol))
FAMILIES = {"local": 1, "key management": 15, "netlink": 16, "packet": 17, "RDS": 21, "CAN": 29, "TIPC": 30,
            "Bluetooth": 31, "crypto": 38, "NFC": 39, "vsock": 40, "KCM": 41, "Qualcomm IPC": 42, "SMC": 43,
            "XDP": 44, "MCTP": 45}
for name, family in FAMILIES.items():
    for kind in (STREAM, DATAGRAM, 3, SEQPACKET):
        attempt(f"make a {name} socket", lambda: only_made(family, kind, 0))
attempt("make a pair of datagram sockets", lambda: pair(DATAGRAM))
attempt("make a pair of packet sockets", lambda: pair(SEQPACKET))
attempt("connect a pair's socket anew", lambda: of_a_pair(connected_again))
attempt("listen on a pair's socket", lambda: of_a_pair(listening))
if network != "all":
    attempt("bind a pair's socket", lambda: of_a_pair(bound))
print(json.dumps({"tried": tried, "done": sorted(set(done))}))
"""

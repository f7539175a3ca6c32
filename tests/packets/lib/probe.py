"""Real connections, many at once, and what became of each.

A probe is one TCP connection or one UDP datagram to a service address. Its result is one of
  reached  a server answered: which namespace, at which address, and what source it saw
  refused  by "rst" (TCP), "port" (ICMP port unreachable) or "icmp T/C" (any other ICMP error)
  silent   nothing came back in time
  error    the kernel said something else
"""
import errno
import itertools
import os
import select
import socket
import struct
import time

from . import netns

IP_RECVERR = 11
IPV6_RECVERR = 25
SO_EE_ORIGIN_ICMP = 2
SO_EE_ORIGIN_ICMP6 = 3
WINDOW = 192
# How much slower than usual this machine is: patience grows with it.
SLOW = float(os.environ.get("SLOW", "1"))
LONGEST_PAUSE = 0.25  # what a look at the state of things takes at most where this process gets to run
RESEND = 0.7 * SLOW  # a datagram may be lost on a busy machine; one that wants an answer is sent again


# A datagram from a port that was used before would belong to that flow still, and go where it went.
FRESH_PORTS = itertools.cycle(range(33000, 61000))


def bind(sock, proto, family, source, sport):
    any_address = "::" if family == socket.AF_INET6 else "0.0.0.0"
    if proto == "udp" and not sport:
        for _ in range(1000):
            try:
                sock.bind((source or any_address, next(FRESH_PORTS)))
                return
            except OSError as e:
                if e.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, "no free port")
    if source or sport:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source or any_address, sport))


class Patience:
    """For loops that look again and again: over() once @seconds are gone, of which each round counts no more than a
    quiet machine would take for it. Where thirty processes want two processors, patience grows, up to eight times."""

    def __init__(self, seconds):
        self.left = seconds * SLOW
        self.last = time.monotonic()
        self.end = self.last + 8 * self.left

    def over(self):
        now = time.monotonic()
        self.left -= min(now - self.last, LONGEST_PAUSE)
        self.last = now
        return self.left < 0 or now > self.end


class Result:
    __slots__ = ("kind", "how", "namespace", "local", "peer", "took", "offender")

    def __init__(self, kind, how="", namespace="", local="", peer="", took=0.0, offender=""):
        self.kind, self.how, self.namespace = kind, how, namespace
        self.local, self.peer, self.took, self.offender = local, peer, took, offender

    def __str__(self):
        if self.kind == "reached":
            return "reached %s(%s)" % (self.local, self.namespace)
        return (self.kind + " " + self.how).strip()


class Probe:
    """@ns is a namespace's name, @source an address or None, @sport a port or 0."""
    __slots__ = ("ns", "source", "sport", "proto", "address", "port", "timeout", "sock", "started",
                 "sent", "result", "bound", "mark")

    def __init__(self, ns, proto, address, port, source=None, sport=0, timeout=3.0, mark=0):
        self.ns, self.proto, self.address, self.port = ns, proto, address, port
        self.source, self.sport, self.timeout, self.mark = source, sport, timeout * SLOW, mark
        self.sock, self.started, self.sent, self.result, self.bound = None, 0.0, 0.0, None, None

    def open(self):
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        kind = socket.SOCK_STREAM if self.proto == "tcp" else socket.SOCK_DGRAM
        with netns.inside(self.ns):
            s = socket.socket(family, kind)
        self.sock = s
        self.started = time.monotonic()
        s.setblocking(False)
        if self.proto == "tcp":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.mark:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
        if family == socket.AF_INET:
            s.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        else:
            s.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        bind(s, self.proto, family, self.source, self.sport)
        err = s.connect_ex((self.address, self.port))
        if err and err != errno.EINPROGRESS:
            self.fail(err)
            return
        try:
            self.bound = s.getsockname()[:2]
        except OSError:
            pass
        if self.proto != "tcp":
            self.send()

    def send(self):
        self.sent = time.monotonic()
        try:
            self.sock.send(b"?")
        except OSError as e:
            # EPERM is how a local sender learns of DROP and, before the ICMP error, of REJECT (VER-17)
            if e.errno != errno.EPERM:
                self.fail(e.errno)

    def done(self, result):
        result.took = time.monotonic() - self.started
        self.result = result

    def fail(self, err):
        how, offender = self.icmp()
        if how:
            self.done(Result("refused" if err == errno.ECONNREFUSED else "error", how, offender=offender))
        elif err == errno.ECONNREFUSED:
            self.done(Result("refused", "rst" if self.proto == "tcp" else "port", offender=offender))
        else:
            self.done(Result("error", errno.errorcode.get(err, str(err))))

    def icmp(self):
        """What the socket's error queue holds: an ICMP error's type and code, and who sent it."""
        try:
            _, control, _, _ = self.sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return "", ""
        for level, kind, data in control:
            if (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
                _, origin, icmp_type, code = struct.unpack_from("IBBB", data)
                if origin == SO_EE_ORIGIN_ICMP:
                    offender = socket.inet_ntop(socket.AF_INET, data[20:24])
                    return "port" if (icmp_type, code) == (3, 3) else "icmp %d/%d" % (icmp_type, code), offender
                if origin == SO_EE_ORIGIN_ICMP6:
                    offender = socket.inet_ntop(socket.AF_INET6, data[24:40])
                    return "port" if (icmp_type, code) == (1, 4) else "icmp %d/%d" % (icmp_type, code), offender
        return "", ""

    def event(self):
        try:
            line = self.sock.recv(512)
        except BlockingIOError:
            return
        except OSError as e:
            self.fail(e.errno)
            return
        part = line.decode("ascii", "replace").split()
        if len(part) < 3:
            self.done(Result("error", "closed"))
        else:
            self.done(Result("reached", "", part[0], part[1], part[2]))

    def close(self):
        if self.sock:
            self.sock.close()
            self.sock = None


def run(probes, window=WINDOW):
    """Runs all probes, at most @window at once; each has a result afterwards."""
    waiting = list(reversed(probes))
    open_by_fd = {}
    poll = select.epoll()
    try:
        while waiting or open_by_fd:
            while waiting and len(open_by_fd) < window:
                p = waiting.pop()
                p.open()
                if p.result:
                    p.close()
                    continue
                open_by_fd[p.sock.fileno()] = p
                poll.register(p.sock.fileno(), select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP)
            for fd, _ in poll.poll(0.05, 256):
                p = open_by_fd[fd]
                p.event()
                if p.result:
                    poll.unregister(fd)
                    del open_by_fd[fd]
                    p.close()
            now = time.monotonic()
            for fd, p in list(open_by_fd.items()):
                if p.proto != "tcp" and p.timeout > RESEND and now - p.sent > RESEND:
                    p.send()
                if not p.result and now - p.started > p.timeout:
                    p.done(Result("silent"))
                if p.result:
                    poll.unregister(fd)
                    del open_by_fd[fd]
                    p.close()
    finally:
        poll.close()
        for p in open_by_fd.values():
            p.close()
    return probes


class Connection:
    """A TCP connection (or UDP flow) that stays: `ask()` says who is at the other end now."""

    def __init__(self, ns, proto, address, port, source=None, sport=0, timeout=3.0):
        self.proto = proto
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with netns.inside(ns):
            self.sock = socket.socket(family, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
        self.sock.settimeout(timeout * SLOW)
        bind(self.sock, proto, family, source, sport)
        self.sock.connect((address, port))
        self.sport = self.sock.getsockname()[1]
        if proto == "tcp":
            self.first = self._line()
        else:
            self.first = self.ask()

    def _line(self):
        data = b""
        while not data.endswith(b"\n"):
            more = self.sock.recv(512)
            if not more:
                return "closed"
            data += more
        return data.decode().strip()

    def ask(self):
        """NAMESPACE LOCAL PEER, "silent", or the error's name."""
        try:
            if self.proto == "tcp":
                self.sock.send(b"?")
                return self._line()
            return self._datagram()
        except TimeoutError:
            return "silent"
        except OSError as e:
            return errno.errorcode.get(e.errno, str(e))

    def _datagram(self):
        """Asks again after RESEND: an answer is lost whose conntrack entry goes while it is under way."""
        timeout = self.sock.gettimeout()
        deadline = time.monotonic() + timeout
        try:
            self._forget_answers()
            while True:
                self.sock.send(b"?")
                self.sock.settimeout(max(0.01, min(RESEND, deadline - time.monotonic())))
                try:
                    return self.sock.recv(512).decode().strip()
                except TimeoutError:
                    if time.monotonic() >= deadline:
                        raise
        finally:
            self.sock.settimeout(timeout)

    def _forget_answers(self):
        """Of former questions that were asked twice."""
        self.sock.setblocking(False)
        try:
            while True:
                self.sock.recv(512)
        except BlockingIOError:
            pass

    def close(self):
        self.sock.close()

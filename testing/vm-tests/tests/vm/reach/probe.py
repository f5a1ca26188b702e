# What a VM tries in the bed: all of a plan at once, a line for each thing tried.
#
#   KIND LABEL BY ADDRESS PORT ANSWER     ANSWER: reached, silence, or the error that it was refused with
#
# It is root, and does what somebody does who broke into the VM: it brings routes back, and makes packets by itself.
import errno, json, random, select, socket, struct, subprocess, sys, time

plan = json.loads(sys.argv[1])
AGAIN = 0.6


def say(*words):
    print(*words, flush=True)


def prepare():
    with open("/proc/sys/net/ipv4/ping_group_range", "w") as file:
        file.write("0 0")
    # who has no network has no routes: that is no wall
    routes = [line.split() for line in open("/proc/net/route")]
    if not any(route[1] == "00000000" for route in routes):
        for gateway in plan["gateways"]:
            way = "dev eth0" if ":" in gateway else ""
            subprocess.run(f"ip route add default via {gateway} {way}", shell=True, stderr=subprocess.DEVNULL)


class Try:
    """One thing that is tried: a socket, and what became of it."""

    def __init__(self, by, address, port):
        self.by, self.to, self.answer, self.connected = by, (address, port), None, False
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        v6 = family == socket.AF_INET6
        if by == "tcp":
            kind = (family, socket.SOCK_STREAM, 0)
        elif by == "udp":
            kind = (family, socket.SOCK_DGRAM, 0)
        else:
            kind = (family, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
        self.reply = bytes([129 if v6 else 0]) if by == "ping" else b"?"
        self.socket = socket.socket(*kind)
        self.socket.setblocking(False)
        self.events = select.EPOLLOUT if by == "tcp" else select.EPOLLIN
        try:
            self.socket.connect(self.to)
            if by != "tcp":
                self.socket.send(self.request())
        except BlockingIOError:
            pass
        except OSError as error:
            self.end(error)

    def request(self):
        if self.by != "ping":
            return b"?"
        # each with a number of its own: an old pasta passes on one answer of a number
        kind = 128 if ":" in self.to[0] else 8
        return struct.pack("!BBHHH", kind, 0, 0, 0, random.randrange(1 << 16)) + b"?"

    def end(self, what):
        self.answer = errno.errorcode.get(what.errno, str(what.errno)) if isinstance(what, OSError) else what
        self.socket.close()

    def step(self):
        try:
            if self.by == "tcp" and not self.connected:
                error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, "refused")
                self.connected = True
                self.socket.send(self.request())
                return select.EPOLLIN
            answer = self.socket.recv(64)
            self.end("reached" if answer.startswith(self.reply) else "cut")
        except BlockingIOError:
            pass
        except OSError as error:
            self.end(error)

    def again(self):
        try:
            if self.by != "tcp":
                self.socket.send(self.request())
        except BlockingIOError:
            pass
        except OSError as error:
            self.end(error)


def tried(kind, label, cells, patience):
    waiting, poll = {}, select.epoll()
    tries = [Try(*cell) for cell in cells]
    for one in tries:
        if one.answer is None:
            waiting[one.socket.fileno()] = one
            poll.register(one.socket.fileno(), one.events)
    end = time.monotonic() + patience
    again = time.monotonic() + AGAIN
    while waiting and time.monotonic() < end:
        for number, _ in poll.poll(AGAIN / 2):
            one = waiting.get(number)
            more = one.step() if one else None
            if one and one.answer is not None:
                # a descriptor that was closed is out of the poll by itself
                del waiting[number]
            elif more:
                poll.modify(number, more)
        if time.monotonic() > again:
            again = time.monotonic() + AGAIN
            for number, one in list(waiting.items()):
                one.again()
                if one.answer is not None:
                    del waiting[number]
    for one in waiting.values():
        one.end("silence")
    poll.close()
    for one in tries:
        say(kind, label, one.by, *one.to, one.answer)


def by_name(label, name):
    try:
        found = sorted({entry[4][0] for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
    except socket.gaierror:
        found = []
    say("answer", label, *found)
    tried("name", label, [(by, address, port) for address in found for by, port in plan["by"]], plan["patience"])


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def packet(source, to, number, payload):
    if ":" in to:
        return struct.pack("!IHBB", 6 << 28, len(payload), number, 64) + packed(source) + packed(to) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0, 64, number, 0) + packed(source) + packed(to)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def summed(source, to, number, payload, at):
    """With the checksum in its place, over the addresses where the protocol has it so."""
    ends = packed(source) + packed(to) + struct.pack("!II", len(payload), number)
    value = checksum(payload if number == 1 else ends + payload) or 0xFFFF
    return packet(source, to, number, payload[:at] + struct.pack("!H", value) + payload[at + 2 :])


def made(by, source, to, text, flags=2):
    port = plan["by"][0][1]
    if by == "tcp":
        return summed(source, to, 6, struct.pack("!HHIIBBHHH", 4242, port, 1 + (flags == 4), 0, 0x50, flags, 1024, 0, 0), 16)
    if by == "udp":
        return summed(source, to, 17, struct.pack("!HHHH", 4242, port, 8 + len(text), 0) + text, 6)
    kind, number = (128, 58) if ":" in to else (8, 1)
    return summed(source, to, number, struct.pack("!BBHHH", kind, 0, 0, 77, 1) + text, 2)


def hand_made():
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind(("eth0", 0))
    mac, gateway = (bytes.fromhex(text.replace(":", "")) for text in plan["macs"])
    count = 0

    def send(packet, source=mac, tag=b""):
        nonlocal count
        kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
        wire.send(gateway + source + tag + kind + packet)
        count += 1

    for own, to, forged, loopback, sources in plan["frames"]:
        for by in ("tcp", "udp", "ping"):
            # what a guest may send, so that the rest is known to be well made
            # (first packets of one connection in a row were the end of an old pasta)
            for _ in range(8 if by == "tcp" else 2):
                send(made(by, own, to, b"?"))
                if by == "tcp":
                    # and what makes the next a first one again
                    send(made(by, own, to, b"?", flags=4))
            for source in sources:
                send(made(by, source, forged, b"!"))
            send(made(by, own, loopback, b"!"))
            send(made(by, own, forged, b"!"), source=bytes.fromhex("02616d700009"))
            send(made(by, own, forged, b"!"), tag=bytes.fromhex("8100000a"))
        # protocols that no policy opens: IP in IP, IPv6 in IP, GRE, ESP, SCTP, UDP-Lite
        for number in (4, 41, 47, 50, 132, 136):
            send(packet(own, forged, number, made("udp", own, forged, b"!")))
        # what is no question for an echo: redirects, timestamps, answers to nothing
        number, kinds = (58, (1, 129, 133, 137)) if ":" in to else (1, (0, 3, 5, 13))
        for kind in kinds:
            send(summed(own, forged, number, struct.pack("!BBHHH", kind, 0, 0, 77, 1) + bytes(16), 2))
    say("sent", count)


def main():
    prepare()
    # those that lead elsewhere later, so that their time runs
    for label, name in plan["turning"]:
        by_name(label, name)
    began = time.monotonic()
    cells = [(by, address, port) for address in plan["raw"] for by, port in plan["by"]]
    tried("raw", "-", cells, plan["patience"])
    hand_made()
    for label, name in plan["names"]:
        by_name(label, name)
    cells = [(by, address, port) for address in plan["links"] for by, port in plan["by"][:2] + plan["by"][-1:]]
    cells += [(by, address, port) for address in plan["gateways"] for by, port in plan["by"][:4]]
    tried("link", "-", cells, 1.5)
    if plan["later"]:
        time.sleep(max(0, began + plan["later"] - time.monotonic()))
        for label, name in plan["turning"]:
            by_name(label + "-later", name)
    say("end")


main()

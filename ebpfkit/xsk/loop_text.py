"""The LLVM IR of the ring loop around a handler.

Belongs here: what the loop does with packets in which order. Sockets, threads and what comes of it are `loop`'s; what
needs no handler is `loop_rings`'; the handler's text is the compiler's.

A frame that came in goes straight back into the fill ring when its packet is dropped; frames that went elsewhere are
made up for from the stack of free frames (`deficit` counts them), so that the kernel always has as many to receive into
as at the start. `owners` follows every frame, as in `umem`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

from ebpfkit.abi import uapi
from ebpfkit.compiler.native_helpers import CONTEXT
from ebpfkit.xsk.loop_rings import BATCH, RingText, module_text
from ebpfkit.xsk.umem import PACKET_HEADROOM, FrameOwner

__all__ = ["DONE", "IDLE", "STOPPED", "LoopText"]

STOPPED, DONE, IDLE = 0, 1, 2
"""Why a loop returned."""

_USER, _TX = int(FrameOwner.USER), int(FrameOwner.TX)
_LOW: Final = 40  # struct xdp_frame, which the kernel keeps at the start of its buffers: the same room here
_SHORT_WAIT: Final = 10  # milliseconds


class LoopText(RingText):
    """The text of run(run) with a handler in it. What the handler never returns needs no code."""

    sends = passes = forwards = True

    def text(self, handler: str, verdicts: Collection[int] | None = None) -> str:
        """The whole module for the handler's text; `verdicts` are all that it returns, where that is known."""
        known = verdicts if verdicts is not None else (uapi.XDP_TX, uapi.XDP_PASS, uapi.XDP_REDIRECT)
        self.forwards = uapi.XDP_REDIRECT in known
        self.sends = uapi.XDP_TX in known or self.forwards  # also to oneself
        self.passes = uapi.XDP_PASS in known
        self.only_receives = not (self.sends or self.passes)
        self.common()
        if not self.only_receives:
            self._forward()
        if self.passes:
            self._hand_up()
            self._take_back()
        self._serve()
        self._run()
        return module_text([handler, *self.lines])

    def _hand_up(self) -> None:
        """hand_up(socket, run, frame, address, length): to Python; false when its ring is full."""
        with self.function("internal i1 @hand_up(ptr %s, ptr %r, i64 %frame, i64 %address, i64 %length) nounwind"):
            following, mask = self.get("up_next", "%r"), self.get("up_mask", "%r")
            seen = self.wide(self.acquire(self.place("up_consumer", "%r")))
            used = self.op(f"and i64 {self.op(f'sub i64 {following}, {seen}')}, 4294967295")
            self.branch(self.compare("ule", used, mask), "room", "full")
            self.label("full")
            self.count("not_taken", 1)
            self.line("ret i1 false")
            self.label("room")
            self.give("%frame", _USER)
            at = self.entry(self.place("up_entries", "%r"), mask, following, 16)
            self.line(f"store i64 %address, ptr {at}, align 8")
            number = self.op(f"shl i64 {self.get('number')}, 32")
            both = self.op(f"or i64 {number}, %length")
            self.line(f"store i64 {both}, ptr {self.op(f'getelementptr i64, ptr {at}, i64 1')}, align 8")
            self.set("up_next", self.op(f"and i64 {self.op(f'add i64 {following}, 1')}, 4294967295"), "%r")
            self.count("passed", 1)
            self.line("ret i1 true")

    def _forward(self) -> None:
        """forward(socket, target, frame, address, length): into the target's TX ring; false when it cannot be.

        With one UMEM the frame itself goes; else the packet is copied, and the frame stays.
        """
        head = "internal i64 @forward(ptr %s, ptr %to, i64 %frame, i64 %address, i64 %length) nounwind"
        with self.function(head):
            self.branch(self.compare("eq", self.get("tx_producer", "%to"), 0), "refused", "sends")
            self.label("sends")
            self.branch(self.compare("eq", self.tx_room("%to"), 0), "make", "room")
            self.label("make")
            self.line("call void @make_room(ptr %to, i64 1)")
            self.branch(self.compare("eq", self.tx_room("%to"), 0), "refused", "room")
            self.label("refused")
            self.count("no_room", 1)
            self.line("ret i64 0")
            self.label("room")
            same = self.compare("eq", self.get("umem"), self.get("umem", "%to"))
            self.branch(same, "whole", "copy")
            self.label("whole")
            self.give("%frame", _TX, "%to")
            self.put_tx("%to", "%address", "%length")
            self.bump("pending", 1, "%to")
            self.count("sent", 1, "%to")
            self.line("ret i64 1")
            self.label("copy")
            offset = self.get("data_offset", "%to")
            fits = self.compare("ule", self.op(f"add i64 {offset}, %length"), self.frame_size)
            self.branch(fits, "sized", "refused")
            self.label("sized")
            place = self.place("top", "%to")
            self.branch(self.compare("eq", self.op(f"load i64, ptr {place}, align 8"), 0), "collect", "take")
            self.label("collect")
            self.line("call void @kick(ptr %to)")
            self.line("call void @reap(ptr %to)")
            self.branch(self.compare("eq", self.op(f"load i64, ptr {place}, align 8"), 0), "refused", "take")
            self.label("take")
            top = self.op(f"sub i64 {self.op(f'load i64, ptr {place}, align 8')}, 1")
            self.line(f"store i64 {top}, ptr {place}, align 8")
            slot = self.op(f"getelementptr i64, ptr {self.place('stack', '%to')}, i64 {top}")
            fresh = self.op(f"load i64, ptr {slot}, align 8")
            self.give(fresh, _TX, "%to")
            start = self.op(f"add i64 {self.start_of(fresh)}, {offset}")
            target = self.op(f"getelementptr i8, ptr {self.place('umem', '%to')}, i64 {start}")
            source = self.op(f"getelementptr i8, ptr {self.place('umem')}, i64 %address")
            self.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 %length, i1 false)")
            self.put_tx("%to", start, "%length")
            self.bump("pending", 1, "%to")
            self.count("sent", 1, "%to")
            self.line("ret i64 2")

    def _serve(self) -> None:
        """serve(socket, run): a batch of received packets through the handler; how many.

        A batch ends where a ring begins again, so that entries follow each other in memory.
        """
        with self.function("internal i64 @serve(ptr %s, ptr %r) nounwind"):
            self.line(f"%ctx = alloca [{len(CONTEXT)} x i64], align 8")
            for name in ("i", "filled", "sent", "bytes", "aborted", "dropped", "upped", "fill_room", "count"):
                self.local(name)
            self.local("one", 1)
            self.branch(self.compare("eq", self.get("rx_producer"), 0), "nothing", "receives")
            self.label("nothing")
            self.line("ret i64 0")
            self.label("receives")
            consumer, producer = self.place("rx_consumer"), self.place("fill_producer")
            first, filling = self.own(consumer), self.own(producer)
            there = self.wide(self.op(f"sub i32 {self.acquire(self.place('rx_producer'))}, {first}"))
            self.branch(self.compare("eq", there, 0), "nothing", "some", weights=False)
            self.label("some")
            self.write("%count", self.op(f"call i64 @llvm.umin.i64(i64 {there}, i64 {BATCH})"))
            rx, fill = self._up_to_end("rx", self.wide(first), 16), self._up_to_end("fill", self.wide(filling), 8)
            tx = self._up_to_end("tx", self.get("tx_next"), 16) if self.sends else ""
            self._room(self.wide(filling))
            count = self.read("%count")
            self._packets(rx, fill, tx, count)
            filled = self.read("%filled")
            self.release(producer, self.op(f"add i32 {filling}, {self.narrow(filled)}"))
            self.release(consumer, self.op(f"add i32 {first}, {self.narrow(count)}"))
            self.bump("deficit", self.op(f"sub i64 {count}, {filled}"))
            self.count("received", count)
            self.count("bytes", self.read("%bytes"))
            self._settle()
            self.line(f"ret i64 {count}")

    def _settle(self) -> None:
        """What a batch leaves to be published and counted; of what no packet took, nothing."""
        for name in ("aborted", "dropped"):
            rest = self.when(self.compare("ne", self.read(f"%{name}"), 0))
            self.count(name, self.read(f"%{name}"))
            self.rest(rest)
        if self.sends:
            sent = self.read("%sent")
            rest = self.when(self.compare("ne", sent, 0))
            following = self.op(f"add i64 {self.get('tx_next')}, {sent}")
            self.set("tx_next", self.op(f"and i64 {following}, 4294967295"))
            self.bump("pending", sent)
            self.count("sent", sent)
            self.rest(rest)
        if not self.passes:
            return
        rest = self.when(self.compare("ne", self.read("%upped"), 0))
        self.release(self.place("up_producer", "%r"), self.narrow(self.get("up_next", "%r")))
        self.op(f"call i64 @write(i32 {self.narrow(self.get('up_fd', '%r'))}, ptr %one, i64 8)")
        self.rest(rest)

    def _up_to_end(self, ring: str, index: str, size: int) -> str:
        """Where the entry of this index is; the batch is cut to what there is up to the ring's end."""
        mask = self.get(f"{ring}_mask")
        slot = self.op(f"and i64 {index}, {mask}")
        left = self.op(f"sub i64 {self.op(f'add i64 {mask}, 1')}, {slot}")
        if ring == "tx":  # a socket may have none
            has = self.compare("ne", self.get("tx_producer"), 0)
            left = self.op(f"select i1 {has}, i64 {left}, i64 {BATCH}")
        self.write("%count", self.op(f"call i64 @llvm.umin.i64(i64 {self.read('%count')}, i64 {left})"))
        return self.op(f"getelementptr [{size} x i8], ptr {self.place(f'{ring}_entries')}, i64 {slot}")

    def _room(self, filling: str) -> None:
        """Room in the fill ring is read anew where it seems short; for TX a full ring is waited for, for a while."""
        size = self.op(f"add i64 {self.get('fill_mask')}, 1")

        def room() -> str:
            used = self.op(f"and i64 {self.op(f'sub i64 {filling}, ' + self.get('fill_seen'))}, 4294967295")
            return self.op(f"sub i64 {size}, {used}")

        self.write("%fill_room", room())
        rest = self.when(self.compare("ult", self.read("%fill_room"), self.read("%count")))
        self.set("fill_seen", self.wide(self.acquire(self.place("fill_consumer"))))
        self.write("%fill_room", room())
        self.rest(rest)
        if not self.sends:
            return
        tx = self.when(self.compare("ne", self.get("tx_producer"), 0))
        short = self.when(self.compare("ult", self.tx_room("%s"), self.read("%count")))
        self.set("tx_seen", self.wide(self.acquire(self.place("tx_consumer"))))
        still = self.when(self.compare("ult", self.tx_room("%s"), self.read("%count")))
        self.line(f"call void @make_room(ptr %s, i64 {self.read('%count')})")
        self.rest(still)
        self.rest(short)
        self.rest(tx)

    def _packets(self, rx: str, fill: str, tx: str, count: str) -> None:
        """The packets of a batch. Everything that does not change is read before."""
        umem, fill_room, owners = self.get("umem"), self.read("%fill_room"), self.place("owners")
        tx_room = "0"
        if self.sends:
            has_tx = self.compare("ne", self.get("tx_producer"), 0)
            tx_room = self.op(f"select i1 {has_tx}, i64 {self.tx_room('%s')}, i64 0")
        for name in ("ifindex", "queue", "cpu"):
            self._into_context(name, self.get(name))
        self._into_context("seed", self.op(f"ptrtoint ptr {self.word('seed', '%r')} to i64"))
        self.go("packet")
        self.label("packet")
        at = self.op(f"getelementptr [16 x i8], ptr {rx}, i64 {self.read('%i')}")
        address = self.op(f"load i64, ptr {at}, align 8")
        length = self.wide(self.op(f"load i32, ptr {self.op(f'getelementptr i64, ptr {at}, i64 1')}, align 8"))
        if self.unaligned:
            base = self.op(f"and i64 {address}, {uapi.XSK_UNALIGNED_BUF_ADDR_MASK}")
            offset = self.op(f"lshr i64 {address}, {uapi.XSK_UNALIGNED_BUF_OFFSET_SHIFT}")
            address = self.op(f"add i64 {base}, {offset}")
        frame = self.frame_of(address)
        start = self.start_of(frame)
        data = self.op(f"add i64 {umem}, {address}")
        for name, value in (
            ("data", data),
            ("meta", data),
            ("end", self.op(f"add i64 {data}, {length}")),
            ("low", self.op(f"sub i64 {data}, {PACKET_HEADROOM - _LOW}")),
            ("high", self.op(f"add i64 {umem}, {self.op(f'add i64 {start}, {self.frame_size}')}")),
            ("target", "0"),
        ):
            self._into_context(name, value)
        self.step("%bytes", length)
        verdict = self.op("call i32 @handler(ptr %ctx)")
        new = self.op(f"sub i64 {self._of_context('data')}, {umem}")
        size = self.op(f"sub i64 {self._of_context('end')}, {self._of_context('data')}")
        cases = {uapi.XDP_DROP: "drop", uapi.XDP_TX: "send", uapi.XDP_PASS: "pass", uapi.XDP_REDIRECT: "redirect"}
        labels = " ".join(f"i32 {number}, label %{label}" for number, label in cases.items())
        self.line(f"switch i32 {verdict}, label %abort [ {labels} ]")
        self._to_self(tx, tx_room, owners, frame, new, size)
        self._to_others(frame, new, size)
        for label, counter in (("abort", "aborted"), ("drop", "dropped")):
            self.label(label)
            self.step(f"%{counter}")
            self.go("recycle")
        self.label("recycle")
        filled = self.read("%filled")
        self.branch(self.compare("ult", filled, fill_room), "reuse", "free", weights=True)
        self.label("reuse")
        into = self.op(f"getelementptr i64, ptr {fill}, i64 {filled}")
        self.line(f"store i64 {start}, ptr {into}, align 8")
        self.step("%filled")
        self.go("following")
        self.label("free")
        self.line(f"call void @put_free(ptr %s, i64 {frame})")
        self.go("following")
        self.label("following")
        self.step("%i")
        self.branch(self.compare("ult", self.read("%i"), count), "packet", "over")
        self.label("over")

    def _to_self(self, tx: str, room: str, owners: str, frame: str, new: str, size: str) -> None:
        """XDP_TX."""
        self.label("send")
        if not self.sends:
            self.line("unreachable")
            return
        sent = self.read("%sent")
        self.branch(self.compare("ult", sent, room), "put", "full", weights=True)
        self.label("full")
        self.count("no_room", 1)
        self.go("recycle")
        self.label("put")
        at = self.op(f"getelementptr [16 x i8], ptr {tx}, i64 {sent}")
        self.line(f"store i64 {new}, ptr {at}, align 8")
        self.line(f"store i64 {size}, ptr {self.op(f'getelementptr i64, ptr {at}, i64 1')}, align 8")
        self.give(frame, _TX, owners=owners)
        self.step("%sent")
        self.go("following")

    def _to_others(self, frame: str, new: str, size: str) -> None:
        """XDP_PASS and XDP_REDIRECT."""
        self.label("pass")
        if self.passes:
            taken = self.op(f"call i1 @hand_up(ptr %s, ptr %r, i64 {frame}, i64 {new}, i64 {size})")
            self.branch(taken, "upped.one", "recycle")
            self.label("upped.one")
            self.step("%upped")
            self.go("following")
        else:
            self.line("unreachable")
        self.label("redirect")
        if not self.forwards:
            self.line("unreachable")
            return
        chosen = self._of_context("target")
        self.branch(self.compare("eq", chosen, 0), "abort", "chosen")
        self.label("chosen")
        target = self.pointer(chosen)
        self.branch(self.op(f"icmp eq ptr {target}, %s"), "send", "other")
        self.label("other")
        done = self.op(f"call i64 @forward(ptr %s, ptr {target}, i64 {frame}, i64 {new}, i64 {size})")
        self.count("forwarded", self.op(f"zext i1 {self.compare('ne', done, 0)} to i64"))
        self.branch(self.compare("eq", done, 1), "following", "recycle")

    def _into_context(self, name: str, value: str) -> None:
        self.line(f"store i64 {value}, ptr {self.op(f'getelementptr i64, ptr %ctx, i64 {CONTEXT[name]}')}, align 8")

    def _of_context(self, name: str) -> str:
        return self.op(f"load i64, ptr {self.op(f'getelementptr i64, ptr %ctx, i64 {CONTEXT[name]}')}, align 8")

    def _take_back(self) -> None:
        """take_back(run): frames that Python has done with, to be freed or sent; how many."""
        with self.function("internal i64 @take_back(ptr %r) nounwind"):
            consumer = self.place("back_consumer", "%r")
            first, last = self.own(consumer), self.acquire(self.place("back_producer", "%r"))
            count = self.wide(self.op(f"sub i32 {last}, {first}"))
            self.branch(self.compare("eq", count, 0), "out", "enter")
            self.label("enter")
            entries, mask, table = (
                self.place("back_entries", "%r"),
                self.get("back_mask", "%r"),
                self.place("sockets", "%r"),
            )
            start = self.wide(first)
            self.go("loop")
            self.label("loop")
            self.line("%i = phi i64 [ 0, %enter ], [ %next, %done ]")
            at = self.entry(entries, mask, self.op(f"add i64 {start}, %i"), 16)
            address = self.op(f"load i64, ptr {at}, align 8")
            both = self.op(f"load i64, ptr {self.op(f'getelementptr i64, ptr {at}, i64 1')}, align 8")
            length = self.op(f"and i64 {both}, 4294967295")
            number = self.op(f"lshr i64 {both}, 32")
            sock = self.op(f"load ptr, ptr {self.op(f'getelementptr ptr, ptr {table}, i64 {number}')}, align 8")
            frame = self.frame_of(address)
            self.branch(self.compare("eq", length, 0), "free", "send")
            self.label("send")
            sent = self.op(f"call i64 @forward(ptr {sock}, ptr {sock}, i64 {frame}, i64 {address}, i64 {length})")
            self.branch(self.compare("eq", sent, 1), "done", "free")
            self.label("free")
            self.push_free(frame, sock)
            self.go("done")
            self.label("done")
            self.line("%next = add i64 %i, 1")
            self.branch(self.compare("ult", "%next", count), "loop", "release")
            self.label("release")
            self.release(consumer, last)
            self.go("out")
            self.label("out")
            self.line(f"ret i64 {count}")

    def _run(self) -> None:
        """run(run): turns until it is stopped, the limit is reached, or nothing came for as long as the patience."""
        with self.function("i64 @run(ptr %r) nounwind"):
            for name in ("i", "idle", "served", "work", "waiting", "word"):
                self.local(name)
            table, limit, spin = self.place("sockets", "%r"), self.get("limit", "%r"), self.get("spin", "%r")
            self.go("turn")
            self.label("turn")
            stop = self.op(f"load atomic i64, ptr {self.word('stop', '%r')} acquire, align 8")
            self.branch(self.compare("ne", stop, 0), "stopped", "working")
            self.label("working")
            self.write("%served", 0)
            self.write("%waiting", 0)
            with self._each(table) as sock:
                self.step("%served", self.op(f"call i64 @serve(ptr {sock}, ptr %r)"))
            back = self.op("call i64 @take_back(ptr %r)") if self.passes else "0"
            self.write("%work", self.op(f"add i64 {self.read('%served')}, {back}"))
            with self._each(table) as sock:
                left = self.op(f"call i64 @finish(ptr {sock})")
                # Packets of a device that is down wait without keeping the loop from its sleep.
                self.step("%work", self.op(f"and i64 {left}, {self.op('xor i64 1, ' + self.get('down', sock))}"))
                self.step("%waiting", self.op(f"or i64 {left}, {self.get('pending', sock)}"))
            done = self.op(f"add i64 {self.get('done', '%r')}, {self.read('%served')}")
            self.set("done", done, "%r")
            limited = self.compare("ne", limit, 0)
            self.branch(self.op(f"and i1 {limited}, {self.compare('uge', done, limit)}"), "enough", "more")
            self.label("more")
            self.branch(self.compare("eq", self.read("%work"), 0), "quiet", "busy")
            self.label("busy")
            self.write("%idle", 0)
            self.go("turn")
            self.label("quiet")
            self.step("%idle")
            self.branch(self.compare("ult", self.read("%idle"), spin), "turn", "sleep")
            self.label("sleep")
            self._sleep()
            for label, status in (("stopped", STOPPED), ("enough", DONE), ("idled", IDLE)):
                self.label(label)
                self.line(f"ret i64 {status}")

    @contextmanager
    def _each(self, table: str) -> Iterator[str]:
        """For each socket, its words."""
        loop, over = self.name("each"), self.name("over")
        self.write("%i", 0)
        self.go(loop)
        self.label(loop)
        yield self.op(f"load ptr, ptr {self.op(f'getelementptr ptr, ptr {table}, i64 ' + self.read('%i'))}, align 8")
        self.step("%i")
        self.branch(self.compare("ult", self.read("%i"), self.get("count", "%r")), loop, over)
        self.label(over)

    def _sleep(self) -> None:
        """Until a packet comes, Python calls, or the patience ends; not for long while packets are on their way out."""
        waits = self.compare("ne", self.read("%waiting"), 0)
        patience = self.narrow(self.get("patience", "%r"))
        patience = self.op(f"select i1 {waits}, i32 {_SHORT_WAIT}, i32 {patience}")
        polls = self.op(
            f"call i32 @poll(ptr {self.place('polls', '%r')}, i64 {self.get('poll_count', '%r')}, i32 {patience})"
        )
        self.write("%idle", 0)
        none = self.compare("eq", polls, 0, "i32")
        self.branch(self.op(f"and i1 {none}, {self.op(f'xor i1 {waits}, true')}"), "idled", "woken")
        self.label("woken")
        fd = self.narrow(self.get("wake_fd", "%r"))
        self.op(f"call i64 @read(i32 {fd}, ptr %word, i64 8)")  # it does not block; nothing to read is as well
        self.go("turn")

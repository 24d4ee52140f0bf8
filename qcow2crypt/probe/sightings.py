"""What is done at the breakpoints of a traced program: look, write down, begin to count.

Knows stopped threads and address spaces, not how to wait for them.  To begin to count at an
instruction that has a breakpoint, all threads of the process must stand still: a thread that runs
into both at once would be counted twice.  So they are stopped and held until all are there.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from qcow2crypt.probe import ptrace
from qcow2crypt.probe.job import Job
from qcow2crypt.probe.memory import Mapping, read_memory
from qcow2crypt.probe.record import Hit, Place, Program, Trace
from qcow2crypt.probe.searching import Found
from qcow2crypt.probe.space import BREAKPOINT, Space
from qcow2crypt.probe.tables import watch_offset
from qcow2crypt.probe.watch import AT_ONCE, Watch

_OPENING = {2: 0, 257: 1, 437: 1}
"""System calls that open a file, open, openat and openat2: which argument is the path."""


@dataclass(slots=True)
class Thread:
    """A thread that we know of; ``process`` is 0 until its parent has told of it."""

    space: Space | None = None
    process: int = 0


@dataclass(slots=True)
class _Hold:
    """Threads of one process that stand still; ``held`` has the signal that each shall get."""

    space: Space
    wanted: list[tuple[int, Place]] = field(default_factory=list)
    waiting: set[int] = field(default_factory=set)
    held: dict[int, int] = field(default_factory=dict)


class Sightings:
    """Breakpoints, what they showed, and who is held."""

    def __init__(self, job: Job, record: Trace, watch: Watch, threads: dict[int, Thread]) -> None:
        self._job = job
        self._record = record
        self._watch = watch
        self._threads = threads
        self._holds: dict[int, _Hold] = {}
        self._may_arm = job.sites and not job.after

    def trapped(self, tid: int, thread: Thread, space: Space) -> bool:
        """A thread stopped with SIGTRAP: True if that was for us, and is dealt with."""
        registers = ptrace.registers(tid)
        if self._watch.trap(space, tid, registers.rip):
            return True
        address = registers.rip - 1
        if address == space.linker_stop:
            if space.libraries_came(tid):
                self.look(tid, thread, space)
            # The function only returns: do that in its place.
            registers.rip = int.from_bytes(read_memory(tid, registers.rsp, 8), "little")
            registers.rsp += 8
        elif address == space.entry:
            space.at_entry(tid)
            self.limit(space)
            self.look(tid, thread, space)
            registers.rip = address
        elif address in space.armed:
            self._hit(tid, thread, space, address, registers.rsp)
            registers.rip = address
        else:
            return False
        ptrace.set_registers(tid, registers)
        return True

    def _hit(self, tid: int, thread: Thread, space: Space, address: int, stack: int) -> None:
        if read_memory(tid, address, 1) != BREAKPOINT:
            return  # another thread was here before
        place, site = space.armed[address]
        if not self._job.first or not site.last or not self._want(tid, thread, address, place):
            space.disarm(tid, address)
        if place not in self._record.hits:
            found = site.data[:1] + read_memory(tid, address + 1, len(site.data))
            callers = space.callers(tid, stack) if site.last else ()
            self._record.hits[place] = Hit(site, thread.process, found, callers)

    def system_call(self, tid: int, info: ptrace.SyscallInfo) -> None:
        """Is it the file being opened that the job waits for?"""
        place = _OPENING.get(info.number) if info.op == ptrace.AT_ENTRY else None
        if place is None or self._may_arm or not self._job.after:
            return
        wanted = self._job.after.encode("utf-8", "surrogateescape")
        path = read_memory(tid, info.arguments[place], len(wanted) + 1)
        if path != wanted + b"\0":
            return
        self._may_arm = self._record.opened = True
        spaces = {id(each.space): (tid, each) for tid, each in self._threads.items() if each.space}
        for other, thread in spaces.values():
            if thread.space is not None:
                thread.space.look_again()
                self.look(other, thread, thread.space)

    def look(self, tid: int, thread: Thread, space: Space) -> None:
        """Search what is newly mapped, and set what the job wants there."""
        for mapping, found in space.look(tid):
            self._note(mapping, found)
            if self._may_arm:
                space.arm(tid, mapping, tuple(site for site in found.sites if site.sure))
            end = mapping.offset + mapping.end - mapping.start
            for place in self._job.places:
                # Code may be mapped a second time without the right to run.
                if (
                    place.path == mapping.path
                    and mapping.offset <= place.offset < end
                    and (place.data or mapping.executable)
                ):
                    address = mapping.start + place.offset - mapping.offset
                    self._want(tid, thread, address, place)
        self.program(space)

    def program(self, space: Space) -> None:
        """Write down which program runs, with the code that it has by now."""
        programs = self._record.programs
        found = Program(space.path, space.code_files())
        if programs and programs[-1].path == found.path:
            files = dict.fromkeys((*programs.pop().files, *found.files))
            found = Program(found.path, tuple(files))
        if found not in programs:
            programs.append(found)

    def limit(self, space: Space) -> None:
        """Write down what cannot be seen of a program."""
        if space.limit:
            text = f"{space.path}: {space.limit}"
            if text not in self._record.limits:
                self._record.limits.append(text)

    def _note(self, mapping: Mapping, found: Found) -> None:
        record = self._record
        if mapping.executable:
            record.sites.setdefault(mapping.path, {})
        for site in found.sites:
            if site.sure:
                record.sites[mapping.path][site.offset] = site
            else:
                record.doubtful[Place(mapping.path, site.offset)] = site
        for table in found.tables:
            record.tables[Place(mapping.path, watch_offset(table), data=True)] = table

    def _want(self, tid: int, thread: Thread, address: int, place: Place) -> bool:
        """Count at an address as soon as all threads of the process stand; False if it cannot be.

        The breakpoint there stays until then.
        """
        space = thread.space
        if space is None or (address, place) in space.watched:
            return False
        hold = self._holds.get(thread.process)
        wanted = hold.wanted if hold else []
        if (address, place) in wanted:
            return True
        if len(space.watched) + len(wanted) >= AT_ONCE:
            self._record.partly.add(place)
            return False
        if hold is None:
            hold = self._holds[thread.process] = _Hold(space)
            for other, each in self._threads.items():
                if each.process == thread.process and other != tid:
                    with contextlib.suppress(OSError):
                        ptrace.interrupt(other)
                        hold.waiting.add(other)
        hold.wanted.append((address, place))
        return True

    def resume(self, tid: int, thread: Thread, deliver: int = 0) -> None:
        """Let a stopped thread run; not before the others of its process stand, if they must."""
        hold = self._holds.get(thread.process)
        if hold is not None:
            hold.held[tid] = deliver
            hold.waiting.discard(tid)
            self._release(thread.process, hold)
        else:
            self._go_on(tid, thread.space, deliver)

    def ended(self, tid: int, thread: Thread) -> None:
        """A thread is no more: nobody waits for it."""
        self._watch.forget(tid)
        hold = self._holds.get(thread.process)
        if hold is not None:
            hold.waiting.discard(tid)
            hold.held.pop(tid, None)
            self._release(thread.process, hold)

    def _release(self, process: int, hold: _Hold) -> None:
        if hold.waiting:
            return
        del self._holds[process]
        tid = next(iter(hold.held), None)
        if tid is None:
            return  # all of them ended
        for address, place in hold.wanted:
            if self._watch.begin(tid, address, place):
                hold.space.watched.append((address, place))
            else:
                self._record.partly.add(place)
            if address in hold.space.armed:
                hold.space.disarm(tid, address)
        for each, deliver in hold.held.items():
            self._go_on(each, hold.space, deliver)

    def _go_on(self, tid: int, space: Space | None, deliver: int) -> None:
        with contextlib.suppress(OSError):  # it may have been killed
            if space is not None:
                self._watch.sync(space, tid)
            ptrace.go_on(tid, deliver, to_syscall=self._job.system_calls)

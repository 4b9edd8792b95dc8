"""Getting at what the caller, its other programs or an earlier job keep to themselves."""

from __future__ import annotations

from functools import partial
from typing import Final

from escape.model import Attack
from escape.oracles import leaks, says
from escape.scene import Scene

_attack = partial(Attack, kind="secrets", oracle=leaks)


def _value(scene: Scene) -> int:
    return int(scene.kept["value"])


_SCAN: Final = (
    "for p in filter(str.isdigit, os.listdir('/proc')):\n"
    "    try: say(open(f'/proc/{p}/environ', 'rb').read())\n    except OSError: pass"
)

ATTACKS: Final = (
    _attack(
        id="secret-environment",
        tries="prints its environment",
        needs=("env",),
        payload="say(str(dict(os.environ)))",
    ),
    _attack(
        id="secret-environment-file",
        tries="reads with what environment its program was started (/proc/self/environ)",
        needs=("env",),
        payload="""
os.environ.clear()
say(open('/proc/self/environ', 'rb').read())
""",
    ),
    _attack(
        id="secret-environment-of-all",
        tries="reads the environments of all processes",
        needs=("decoy", "env"),
        payload=_SCAN,
    ),
    _attack(
        id="secret-environment-of-parent",
        tries="reads the environment of the process that started it",
        needs=("env",),
        payload="""
if os.fork():
    os.wait()
    sys.exit()
pid = os.getppid()
while pid > 0:
    say(open(f'/proc/{pid}/environ', 'rb').read())
    pid = int(open(f'/proc/{pid}/stat').read().rsplit(')')[1].split()[1])
""",
    ),
    _attack(
        id="secret-own-memory",
        tries="searches its own memory for what was there before it (/proc/self/mem)",
        needs=("env",),
        payload="""
os.environ.clear()
mem = open('/proc/self/mem', 'rb', 0)
for line in open('/proc/self/maps'):
    lo, hi = (int(x, 16) for x in line.split()[0].split('-'))
    if not line.split()[1].startswith('r') or lo > 1 << 62: continue
    try: mem.seek(lo); body = mem.read(hi - lo)
    except OSError: continue
    at = body.find(b'FH_CALLERS_' + b'SECRET=')
    if at >= 0: say(body[at:at + 80])
""",
    ),
    _attack(
        id="secret-own-stack",
        tries="reads the stack above main, where the kernel puts the environment",
        needs=("env",),
        payload="""
environ = ctypes.c_void_p.in_dll(libc, '__environ').value
words = (ctypes.c_char_p * 4).from_address(environ)
while words[0] is not None:
    say(words[0])
    environ += 8
    words = (ctypes.c_char_p * 4).from_address(environ)
""",
    ),
    _attack(
        id="secret-arguments",
        tries="reads the arguments of another process",
        needs=("argument_decoy",),
        payload="say(open(f\"/proc/{F['decoy']}/cmdline\", 'rb').read())",
    ),
    _attack(
        id="secret-memory-file",
        tries="reads another process's memory (/proc/PID/mem)",
        needs=("decoy",),
        payload="""
fd = os.open(f"/proc/{F['decoy']}/mem", os.O_RDONLY)
say(os.pread(fd, 64, F['buffer']))
""",
    ),
    _attack(
        id="secret-memory-copied",
        tries="copies another process's memory (process_vm_readv)",
        needs=("decoy",),
        payload="""
room = ctypes.create_string_buffer(64)
here = struct.pack('=QQ', ctypes.addressof(room), 64)
there = struct.pack('=QQ', F['buffer'], 64)
sc('process_vm_readv', F['decoy'], here, 1, there, 1, 0)
say(room.raw)
""",
    ),
    _attack(
        id="secret-memory-traced",
        tries="attaches to another process and reads it word by word (ptrace)",
        needs=("decoy",),
        payload="""
sc(101, 16, F['decoy'], 0, 0)
os.waitpid(F['decoy'], 0)
words = b''
for at in range(0, 32, 8):
    room = ctypes.c_long()
    sc(101, 2, F['decoy'], F['buffer'] + at, ctypes.byref(room))
    words += bytes(room)
sc(101, 17, F['decoy'], 0, 0)
say(words)
""",
    ),
    _attack(
        id="secret-inherited-pipe",
        tries="reads a pipe that the caller forgot to close",
        needs=("inherited_pipe",),
        payload="say(os.read(F['fd'], 100))",
    ),
    _attack(
        id="secret-key-of-session",
        tries="reads a key of the caller's session keyring",
        needs=("session_key",),
        payload="""
room = ctypes.create_string_buffer(100)
key = sc('keyctl', 10, -3, b'user', F['token'].encode(), 0)
sc('keyctl', 11, key, room, 100)
say(room.raw)
""",
    ),
    _attack(
        id="secret-key-of-user",
        tries="reads a key of the user's keyring",
        needs=("user_key",),
        payload="""
room = ctypes.create_string_buffer(100)
sc('keyctl', 8, -4, -3)
key = sc('keyctl', 10, -4, b'user', F['token'].encode(), 0)
sc('keyctl', 11, key, room, 100)
say(room.raw)
""",
    ),
    _attack(
        id="secret-key-requested",
        tries="asks the kernel to find a key wherever it is (request_key)",
        needs=("session_key",),
        payload="""
room = ctypes.create_string_buffer(100)
key = sc('request_key', b'user', F['token'].encode(), 0, 0)
sc('keyctl', 11, key, room, 100)
say(room.raw)
""",
    ),
    _attack(
        id="secret-key-list",
        tries="lists the names of all keys that it can see (/proc/keys)",
        needs=("session_key",),
        oracle=lambda scene, run: f"{scene.kept['key']:08x}".encode() in run.stdout,
        payload="say(open('/proc/keys', 'rb').read())",
    ),
    _attack(
        id="secret-shared-segment",
        tries="attaches a System V segment of the host",
        needs=("shm",),
        payload="""
libc.shmat.restype = ctypes.c_void_p
at = libc.shmat(F['shm'], None, 0)
if at == 2**64 - 1: raise OSError(ctypes.get_errno(), 'shmat')
say(ctypes.string_at(at, 24))
""",
    ),
    _attack(
        id="secret-semaphore",
        tries="reads the value of a System V semaphore of the host",
        needs=("sem",),
        oracle=says(_value),
        payload="say(sc('semctl', F['sem'], 0, 12, 0))",
    ),
    _attack(
        id="secret-message",
        tries="takes a message from a System V queue of the host",
        needs=("queue",),
        payload="""
room = ctypes.create_string_buffer(108)
sc('msgrcv', F['queue'], room, 100, 0, 0o4000)
say(room.raw[8:])
""",
    ),
    _attack(
        id="secret-posix-message",
        tries="takes a message from a POSIX queue of the host",
        needs=("posix_queue",),
        payload="""
fd = sc('mq_open', F['mq'].encode(), os.O_RDONLY | os.O_NONBLOCK, 0, 0)
room = ctypes.create_string_buffer(65536)
n = sc('mq_timedreceive', fd, room, 65536, 0, 0)
say(room.raw[:n])
""",
    ),
    _attack(
        id="secret-shared-file",
        tries="opens a file in the host's /dev/shm",
        needs=("posix_shm",),
        payload="say(open(F['shm_name']).read())",
    ),
    _attack(
        id="secret-agent",
        tries="connects to an agent of the host that gives out keys (Unix socket)",
        needs=("agent",),
        payload="""
s = socket.socket(socket.AF_UNIX)
s.connect(F['agent'])
say(s.recv(100))
""",
    ),
    _attack(
        id="secret-abstract-agent",
        tries="connects to an agent that has a name without a file (abstract socket)",
        needs=("abstract_agent",),
        payload="""
s = socket.socket(socket.AF_UNIX)
s.connect('\\0' + F['token'])
say(s.recv(100))
""",
    ),
    _attack(
        id="secret-agent-by-link",
        tries="connects to the agent through a link in its working folder",
        needs=("agent", "work"),
        payload="""
os.symlink(F['agent'], 'a')
s = socket.socket(socket.AF_UNIX)
s.connect('./a')
say(s.recv(100))
""",
    ),
    _attack(
        id="secret-of-earlier-job",
        tries="looks in the folders for temporary files for what an earlier job left",
        oracle=lambda scene, run: f"left-{scene.token}".encode() in run.stdout,
        before="""
for d in ('/tmp', '/dev/shm', '/var/tmp', os.environ.get('TMPDIR', '/tmp')):
    try: open(f"{d}/{F['tag']}-left", 'w').write('left-' + F['token'])
    except OSError: pass
""",
        payload="""
F['token'] = ''
for d in ('/tmp', '/dev/shm', '/var/tmp', os.environ.get('TMPDIR', '/tmp')):
    try: say(open(f"{d}/{F['tag']}-left").read()); os.unlink(f"{d}/{F['tag']}-left")
    except OSError: pass
""",
    ),
    _attack(
        id="secret-of-earlier-process",
        tries="looks for a process that an earlier job left running",
        oracle=lambda scene, run: f"left-{scene.token}".encode() in run.stdout,
        before="""
if os.fork() == 0:
    os.setsid()
    libc.prctl(15, b'left', 0, 0, 0)
    time.sleep(5)
""",
        payload="""
time.sleep(0.05)
for p in filter(str.isdigit, os.listdir('/proc')):
    try:
        if open(f'/proc/{p}/comm').read() == 'left\\n': say('left-' + F['token']); os.kill(int(p), 9)
    except OSError: pass
""",
    ),
)

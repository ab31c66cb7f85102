#!/usr/bin/env python3
"""Makes the container images of the local cluster out of packages, and writes them as archives (docker-archive).

usage: images.py build            make what is missing
       images.py list [GROUP]     name and archive of every image there is; GROUP: engines, cluster, clients

Nothing is pulled from an image registry and the machine's own packages are not touched: each suite of the Debian archive has
an apt state of its own below the cache. An image is called what its public twin is called, so a manifest does not
know the difference. The names and sources come from local/versions, the paths from the environment (see lib/common.sh).
"""
import glob
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ["KAGAMI_CACHE"]
OUT = os.path.join(CACHE, "images")
WORK = os.path.join(CACHE, "packages")
BEGAN = time.time()
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENGINE_UID = 999


class Missing(Exception):
    """A source that cannot be had, in a sentence."""


def say(text):
    print(f"[{time.time() - BEGAN:3.0f}s] {text}", file=sys.stderr, flush=True)


def run(*command, **kw):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    if done.returncode:
        raise Missing(f"{' '.join(command[:6])} …: {' / '.join(done.stdout.strip().splitlines()[-3:])}")
    return done.stdout


def versions():
    """local/versions, as the shell reads it."""
    out = run("bash", "-c", f"set -a; . {shlex.quote(HERE)}/../versions; env -0")
    return dict(pair.split("=", 1) for pair in out.split("\0") if "=" in pair)


VERSIONS = versions()
ARCHITECTURE = run("dpkg", "--print-architecture").strip()


# --- sources ---------------------------------------------------------------------------------------------------------

def mirror():
    """The Debian archive this machine uses itself."""
    given = os.environ.get("KAGAMI_DEBIAN_MIRROR")
    if given:
        return given
    sites = run("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages").split()
    for site in sites:
        if site.rstrip("/").endswith("/debian"):
            return site
    raise Missing("this machine has no Debian archive among its apt sources; set KAGAMI_DEBIAN_MIRROR to one")


class Suite:
    """One suite of the archive, with an apt state of its own."""

    states = {}

    def __new__(cls, name):
        if name not in cls.states:
            cls.states[name] = super().__new__(cls)
        return cls.states[name]

    def __init__(self, name):
        if hasattr(self, "name"):
            return
        self.name, self.error = name, None
        self.dir = os.path.join(WORK, "apt", name)
        self.conf = os.path.join(self.dir, "apt.conf")
        for d in ("lists/partial", "archives/partial", "log"):
            os.makedirs(os.path.join(self.dir, d), exist_ok=True)
        open(os.path.join(self.dir, "status"), "w").close()
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        options = f"[signed-by={keyring}] " if os.path.exists(keyring) else ""
        # Experimental is not complete: what it does not have comes from unstable.
        with open(os.path.join(self.dir, "sources.list"), "w") as f:
            for s in [name] + (["sid"] if name == "experimental" else []):
                f.write(f"deb {options}{mirror()} {s} main\n")
        with open(self.conf, "w") as f:
            f.write(f'''Dir::State "{self.dir}";
Dir::State::lists "{self.dir}/lists";
Dir::State::status "{self.dir}/status";
Dir::Cache "{self.dir}";
Dir::Log "{self.dir}/log";
Dir::Etc::sourcelist "{self.dir}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "2";
''')
        say(f"reading the package lists of {name} …")
        try:
            out = self.apt("update")
            if re.search(r"^(Err:|W: Failed|E: )", out, re.M):
                raise Missing(" / ".join(re.findall(r"^(?:Err:|W: Failed|E: ).*", out, re.M)[:2]))
        except Missing as e:
            self.error = f"the suite {name} cannot be read: {e}"

    def apt(self, *arguments, **kw):
        return run("apt-get", "-c", self.conf, "-q", *arguments, **kw)

    def newest(self, package):
        """The version that would be installed."""
        if self.error:
            raise Missing(self.error)
        out = self.apt("-s", "-t", self.name, "install", package)
        found = re.search(rf"^Inst {re.escape(package)} \((\S+)", out, re.M)
        if not found:
            raise Missing(f"{self.name} has no package {package}")
        return found.group(1)

    def tree(self, *packages):
        """A folder in which the packages and all they depend on are unpacked (not installed: no scripts are run)."""
        if self.error:
            raise Missing(self.error)
        wanted = re.findall(r"^Inst (\S+)", self.apt("-s", "-t", self.name, "install", *packages), re.M)
        wanted = [p for p in wanted if not UNWANTED.match(p)]
        tree = os.path.join(WORK, "trees", f"{self.name}-{packages[0]}")
        debs = tree + ".debs"
        for d in (tree, debs):
            shutil.rmtree(d, ignore_errors=True)
            os.makedirs(d)
        self.apt("-t", self.name, "download", *wanted, cwd=debs)
        for deb in sorted(os.listdir(debs)):
            run("dpkg-deb", "-x", os.path.join(debs, deb), tree)
        shutil.rmtree(debs)
        return tree


# What installing needs and running does not.
UNWANTED = re.compile(r"^(adduser|base-passwd|debconf|dpkg|gcc-\d+-base|init-system-helpers|login.*|lsb-base|passwd|perl.*|tar|sysvinit.*|systemd.*|"
                      r"libpam.*|libsemanage.*|libsepol.*|libaudit.*|media-types|tzdata|mailcap)$")


def wheels(*requirements):
    """A folder with the content of Python wheels."""
    out = os.path.join(WORK, "wheels", re.sub(r"[^\w.]+", "-", "_".join(requirements)))
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out + "/whl")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[ARCHITECTURE]
    platforms = [o for p in ("manylinux2014", "manylinux_2_17") for o in ("--platform", f"{p}_{machine}")]
    run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp",
        "--abi", "cp311", "--abi", "none", *platforms, "--platform", "any", "-d", out + "/whl", *requirements)
    for w in glob.glob(out + "/whl/*.whl"):
        zipfile.ZipFile(w).extractall(out)
    shutil.rmtree(out + "/whl")
    return out


# --- root file systems -----------------------------------------------------------------------------------------------

class Root:
    """The files of an image, collected in a folder."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="root-", dir=WORK)
        self.owners = {}

    def path(self, name):
        p = os.path.join(self.dir, name.lstrip("/"))
        os.makedirs(os.path.dirname(p), exist_ok=True)
        return p

    def folder(self, name, mode=0o755, owner=0):
        os.makedirs(self.path(name), exist_ok=True)
        os.chmod(self.path(name), mode)
        self.owners[name.strip("/")] = owner

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w") as f:
            f.write(text)
        os.chmod(self.path(name), mode)

    def copy(self, source, name, mode=0o755):
        shutil.copyfile(source, self.path(name))
        os.chmod(self.path(name), mode)

    def link(self, target, name):
        if not os.path.lexists(self.path(name)):
            os.symlink(target, self.path(name))

    def people(self):
        self.write("etc/passwd", f"root:x:0:0:root:/root:/bin/sh\nredis:x:{ENGINE_UID}:{ENGINE_UID}::/data:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
        self.write("etc/group", f"root:x:0:\nredis:x:{ENGINE_UID}:\nnogroup:x:65534:\n")
        self.write("etc/nsswitch.conf", "hosts: files dns\n")
        self.folder("tmp", 0o1777)
        self.folder("root", 0o700)

    def busybox(self, tree):
        """A shell and the usual tools, in one static program."""
        program = find(tree, "busybox")
        self.copy(program, "bin/busybox")
        for applet in run(program, "--list").split():
            if applet != "busybox":
                self.link("busybox", f"bin/{applet}")

    def libraries(self, tree, *programs):
        """Copies what the programs are linked with, out of the tree and never from the machine, with their loader."""
        loader = find(tree, "ld-linux-*.so.*")
        folders = sorted({os.path.dirname(p) for p in glob.glob(tree + "/**/*-linux-gnu*/*.so*", recursive=True)})
        for program in programs:
            for line in run(loader, "--library-path", ":".join(folders), "--list", program).splitlines():
                if "not found" in line:
                    raise Missing(f"{program} needs a library that its suite did not give: {line.strip()}")
                found = re.search(r"=> (/\S+)", line)
                if not found or "ld-linux" in found.group(1):
                    continue
                if not os.path.realpath(found.group(1)).startswith(os.path.realpath(tree)):
                    raise Missing(f"{program} would take {found.group(1)} from this machine")
                self.copy(found.group(1), f"usr/lib/{os.path.basename(found.group(1))}", 0o644)
        self.copy(loader, f"usr/lib/{os.path.basename(loader)}")
        self.link("usr/lib", "lib")
        self.link("usr/lib", "lib64")
        for locale in glob.glob(tree + "/usr/lib/locale/C.*"):
            shutil.copytree(locale, self.path("usr/lib/locale/" + os.path.basename(locale)), dirs_exist_ok=True)

    def archive(self, name, out, config):
        """Writes the image; the same files give the same bytes."""
        buffer = io.BytesIO()

        def plain(entry):
            entry.mtime, entry.uname, entry.gname = 0, "", ""
            entry.uid = entry.gid = self.owners.get(entry.name, 0)
            return entry

        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as layer:
            for top in sorted(os.listdir(self.dir)):
                layer.add(os.path.join(self.dir, top), top, filter=plain)
        shutil.rmtree(self.dir)
        layer = buffer.getvalue()
        digest = hashlib.sha256(layer).hexdigest()
        config = json.dumps({"architecture": ARCHITECTURE, "os": "linux", "created": "1970-01-01T00:00:00Z",
                             "config": {"Env": [PATH], **config},
                             "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
                             "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "kagami local/images"}]}).encode()
        name_of_config = hashlib.sha256(config).hexdigest() + ".json"
        manifest = json.dumps([{"Config": name_of_config, "RepoTags": [name], "Layers": [digest + "/layer.tar"]}]).encode()
        with tarfile.open(out + ".partial", "w") as archive:
            for entry, content in ((digest + "/layer.tar", layer), (name_of_config, config), ("manifest.json", manifest)):
                info = tarfile.TarInfo(entry)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        os.rename(out + ".partial", out)


def find(tree, pattern):
    """A file in a tree; the newest folder layout keeps everything in /usr, older ones do not."""
    hits = [p for p in glob.glob(f"{tree}/**/{pattern}", recursive=True) if os.path.isfile(p)]
    binaries = [p for p in hits if "/bin/" in p or "lib" in p]
    if not binaries:
        raise Missing(f"{pattern} is not in {os.path.basename(tree)}")
    return os.path.realpath(sorted(binaries)[0])


# --- images ----------------------------------------------------------------------------------------------------------

def engine(name, source):
    """-> (series, full version, function that fills a root). Nothing but the version is fetched before it is wanted."""
    kind, where = source.split(":", 1)
    if kind == "wheel":
        expected = where.split("==")[1]
        series = ".".join(expected.split(".")[:2])

        def sources():
            # The wheel has the server and the command line; the rest, and the libraries, are those of the base suite.
            content = wheels(where)
            tree = Suite(VERSIONS["BASE_SUITE"]).tree(f"{name}-server", "busybox-static", "libc-bin")
            for program in ("server", "cli"):
                inside = [p for p in glob.glob(f"{content}/**/{name}-{program}", recursive=True) if os.path.isfile(p)]
                if inside:
                    target = os.path.join(tree, "usr/bin", f"{name}-{program}")
                    if os.path.lexists(target):
                        os.remove(target)       # a link to a program that stays what it is
                    shutil.copyfile(inside[0], target)
                    os.chmod(target, 0o755)
            return tree
    else:
        suite = Suite(where)
        package = suite.newest(f"{name}-server")
        expected = re.sub(r"^\d+:", "", package)
        series = ".".join(expected.split(".")[:2])

        def sources():
            return suite.tree(f"{name}-server", "busybox-static", "libc-bin")

    def fill():
        tree = sources()
        root = Root()
        root.people()
        root.busybox(tree)
        programs = []
        for program in ("server", "cli", "benchmark"):
            root.copy(find(f"{tree}/usr/bin", f"{name}-{program}"), f"usr/bin/{name}-{program}")
            programs.append(root.path(f"usr/bin/{name}-{program}"))
            if name != "redis":
                root.link(f"{name}-{program}", f"usr/bin/redis-{program}")
        for alias in ("check-rdb", "check-aof", "sentinel"):   # one program with several names
            root.link(f"{name}-server", f"usr/bin/{name}-{alias}")
        root.libraries(tree, *programs)
        root.folder("data", 0o755, ENGINE_UID)
        compile_static("as-engine.c", root.path("usr/local/bin/as-engine"))
        with open(os.path.join(HERE, "entrypoint")) as f:
            root.write("usr/local/bin/docker-entrypoint.sh", f.read().replace("SERVER", f"{name}-server"), 0o755)
        shutil.rmtree(tree)
        return root, {"Entrypoint": ["docker-entrypoint.sh"], "Cmd": [f"{name}-server"], "WorkingDir": "/data",
                      "ExposedPorts": {"6379/tcp": {}}, "Volumes": {"/data": {}}}

    return series, expected, fill


def busybox():
    tree = Suite(VERSIONS["BASE_SUITE"]).tree("busybox-static")
    root = Root()
    root.people()
    root.busybox(tree)
    return root, {"Cmd": ["sh"]}


def compile_static(source, target):
    compiler = shutil.which("musl-gcc") or shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        sys.exit("images: a C compiler is needed (musl-tools and gcc)")
    run(compiler, "-static", "-Os", "-s", "-o", target, os.path.join(HERE, source))


def pause():
    root = Root()
    compile_static("pause.c", root.path("pause"))
    return root, {"Entrypoint": ["/pause"], "User": "65535:65535"}


def program(name, entry):
    def fill():
        root = Root()
        root.copy(os.path.join(os.environ[f"PROGRAM_{name.upper().replace('-', '_')}"], name), entry)
        root.people()
        return root, {"Entrypoint": [entry]}
    return fill


def python_client():
    tree = Suite(VERSIONS["BASE_SUITE"]).tree("python3-minimal", "libpython3-stdlib", "busybox-static", "libc-bin")
    root = Root()
    root.people()
    root.busybox(tree)
    interpreter = find(f"{tree}/usr/bin", "python3.[0-9]*")
    version = os.path.basename(interpreter)
    root.copy(interpreter, f"usr/bin/{version}")
    for alias in ("python3", "python"):
        root.link(version, f"usr/bin/{alias}")
    shutil.copytree(f"{tree}/usr/lib/{version}", root.path(f"usr/lib/{version}"), symlinks=True,
                    ignore=shutil.ignore_patterns("__pycache__", "test", "lib2to3", "ensurepip", "config-*", "tkinter", "sitecustomize.py"))
    root.libraries(tree, interpreter, *glob.glob(f"{tree}/usr/lib/{version}/lib-dynload/*.so"))
    for module in glob.glob(wheels(*VERSIONS["PYTHON_WHEELS"].split()) + "/*"):
        shutil.copytree(module, root.path(f"usr/lib/python3/dist-packages/{os.path.basename(module)}"))
    shutil.rmtree(tree)
    return root, {"Cmd": ["python3"], "Env": [PATH, "LANG=C.UTF-8", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"]}


def other_images():
    """(group, name, what it depends on besides this file, function)"""
    yield "cluster", f"registry.k8s.io/pause:{VERSIONS['PAUSE_VERSION']}", VERSIONS["PAUSE_VERSION"], pause
    yield "cluster", f"registry.k8s.io/coredns/coredns:v{VERSIONS['COREDNS_VERSION']}", stamp("coredns"), program("coredns", "/coredns")
    yield ("cluster", f"docker.io/rancher/local-path-provisioner:v{VERSIONS['LOCAL_PATH_PROVISIONER_VERSION']}", stamp("local-path-provisioner"),
           program("local-path-provisioner", "/usr/bin/local-path-provisioner"))
    yield "cluster", f"docker.io/library/busybox:{VERSIONS['BUSYBOX_VERSION']}", VERSIONS["BASE_SUITE"], busybox
    yield "clients", "localhost/kagami/python-redis:latest", VERSIONS["PYTHON_WHEELS"], python_client


def stamp(name):
    with open(os.path.join(os.environ[f"PROGRAM_{name.upper().replace('-', '_')}"], "complete")) as f:
        return f.read()


# --- the cache -------------------------------------------------------------------------------------------------------

def recipe(*parts):
    """Changes when an image would be made differently."""
    h = hashlib.sha256(repr(parts).encode())
    for f in ("images.py", "entrypoint", "pause.c", "as-engine.c"):
        with open(os.path.join(HERE, f), "rb") as content:
            h.update(content.read())
    return h.hexdigest()[:16]


def records():
    for p in sorted(glob.glob(OUT + "/*.json")):
        with open(p) as f:
            r = json.load(f)
        r["archive"] = p[:-len(".json")] + ".tar"
        if os.path.exists(r["archive"]):
            yield r


def make(group, name, key, version, fill):
    base = os.path.join(OUT, re.sub(r"[^\w.-]+", "_", name.split("/", 1)[1] if "." in name.split("/")[0] else name))
    say(f"making the image {name}{' (' + version + ')' if version else ''} …")
    root, config = fill()
    root.archive(name, base + ".tar", config)
    with open(base + ".json.partial", "w") as f:
        json.dump({"group": group, "name": name, "recipe": key, "version": version}, f)
    os.rename(base + ".json.partial", base + ".json")


def build():
    os.makedirs(OUT, exist_ok=True)
    os.makedirs(WORK, exist_ok=True)
    for left in glob.glob(WORK + "/root-*"):
        shutil.rmtree(left)
    have = {r["recipe"]: r for r in records()}
    wanted = set()
    for group, name, depends, fill in other_images():
        key = recipe(name, depends)
        wanted.add(key)
        if key not in have:
            make(group, name, key, None, fill)
    for line in VERSIONS["ENGINE_SOURCES"].strip().splitlines():
        name, expected, source = line.split()
        key = recipe(name, expected, source)
        wanted.add(key)
        if key in have:
            continue
        try:
            series, version, fill = engine(name, source)
            if series != expected:
                say(f"note: {source} now has {name} {version} instead of {expected}; the image is called {series} and {expected} is not to be had")
            make("engines", f"docker.io/{'library' if name == 'redis' else name}/{name}:{series}", key, version, fill)
        except Missing as e:
            say(f"warning: no image of {name} {expected}: {e}")
    for r in records():
        if r["recipe"] not in wanted:
            # An older recipe's image stays only as long as nothing better could be made under its name.
            if any(o["name"] == r["name"] and o["recipe"] in wanted for o in records()) or r["group"] != "engines":
                os.remove(r["archive"])
                os.remove(r["archive"][:-4] + ".json")
    names = [r["name"].split("/", 1)[1] for r in records() if r["group"] == "engines"]
    for need in VERSIONS["ENGINES_REQUIRED"].split():
        if not any(re.search(rf"(^|/){need.replace('*', '.*')}$", n) for n in names):
            sys.exit(f"the engine image {need} could not be made, and without it nothing can be tested")


def main():
    if sys.argv[1:] == ["build"]:
        build()
    elif sys.argv[1:2] == ["list"]:
        for r in records():
            if len(sys.argv) < 3 or r["group"] == sys.argv[2]:
                print(f"{r['name']}\t{r['archive']}")
    else:
        sys.exit(__doc__)


try:
    main()
except Missing as problem:
    sys.exit(f"images: {problem}")

"""A server of one's own for Python tests, started by a script of this folder: `with Server() as s:`."""
import os
import pathlib
import shutil
import subprocess
import tempfile

from support import Skip

HERE = pathlib.Path(__file__).parent


class Server:
    """@p settings go to the script, each name with the prefix; @p folder: not one of its own."""
    script = None  # "smtp.sh"
    prefix = ""    # "SMTP_"
    words = ()     # of its verb "start"
    last = "stop"  # the verb in the end

    def __init__(self, folder=None, **settings):
        self.given = folder
        self.settings = {self.prefix + name: value for name, value in settings.items()}

    def check(self):
        """Skips what cannot be; the script does so too."""

    def prepare(self):
        """The folder is made, the server does not run."""

    def __enter__(self):
        self.check()
        self.folder = pathlib.Path(self.given or tempfile.mkdtemp(prefix="mr-server-"))
        # The server and its folder go when this end of the pipe is closed, whatever ends us.
        self.theirs, self.ours = os.pipe()
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        env = dict(os.environ, TEST_GUARD=str(self.theirs), **self.settings)
        done = subprocess.run([HERE / self.script, "start", self.folder, *self.words], env=env,
                              text=True, pass_fds=[self.theirs], capture_output=True, check=False)
        if done.returncode == 77:
            raise Skip(done.stderr.strip().split("skipped: ")[-1])
        assert done.returncode == 0, (done.stdout, done.stderr)
        self.told(done.stdout.split())

    def told(self, words):
        """What the script printed: where it listens."""
        self.port = int(words[0])

    def run(self, verb, *words):
        return subprocess.run([HERE / self.script, verb, self.folder, *words], check=True,
                              text=True, stdout=subprocess.PIPE).stdout

    def stop(self):
        """In good order."""
        self.run("stop")

    def kill(self):
        self.run("kill")

    def __exit__(self, *what):
        subprocess.run([HERE / self.script, self.last, self.folder], check=False,
                       stderr=subprocess.DEVNULL)
        os.close(self.ours)
        os.close(self.theirs)
        if self.given is None:
            shutil.rmtree(self.folder, ignore_errors=True)

"""The runner of these cases itself: what fails is told at the end, and what is good when repeated is called unsteady."""
import os
import re
import subprocess
import sys
import tempfile

from lib.case import *

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run")

UNSTEADY = '''
import os
from lib.case import *


@case("the first time it fails (really)", "RUN-1", families=(4,))
def unsteady_case(b, family):
    been = os.path.exists(PATH)
    open(PATH, "w").close()
    b.true("been here", been)


@case("it is always good", "")
def good_case(b):
    pass
'''

BAD = '''
from lib.case import *


@case("it never is good", "")
def bad_case(b):
    b.fail("what", "this", "that")
'''


def run(folder, source, *more):
    path = os.path.join(folder, "test_it.py")
    with open(path, "w", encoding="utf-8") as file:
        file.write(source)
    done = subprocess.run([sys.executable, RUN, *more, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=120, check=False)
    return done.returncode, done.stdout.partition("== end\n")[2]


@case("a case that is good when repeated is unsteady, and told", "")
def unsteady_case(b):
    with tempfile.TemporaryDirectory() as folder:
        status, end = run(folder, UNSTEADY.replace("PATH", repr(os.path.join(folder, "been"))))
    b.equal("status", 0, status)
    b.true("the end: " + end, re.fullmatch(
        r"\nunsteady, good 3 times when repeated: test_it.py: FAIL   the first time it fails \(really\) \[IPv4\] \(RUN-1\)\n"
        r"       been here: want true, got False\n"
        r"packets: 1 passed, 0 failed, 0 skipped, 1 unsteady\n", end))


@case("a case that is never good fails the run", "")
def bad_case(b):
    with tempfile.TemporaryDirectory() as folder:
        status, end = run(folder, BAD)
        b.equal("status", 1, status)
        b.equal("the end", "\ntest_it.py: FAIL   it never is good\n       what: want this, got that\n"
                           "packets: 0 passed, 1 failed, 0 skipped\n", end)
        status, end = run(folder, BAD + "\nraise SystemExit(7)\n")
    b.equal("status of a file that ends too early", 1, status)
    b.true("its end: " + end, end.startswith("\ntest_it.py: FAIL   ended with status 7\n"))

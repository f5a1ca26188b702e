"""What a client of forkd does, with the package as it is published: FORKD_URL and FORKD_TOKEN say where."""

import sys

from forkd import Controller, ControllerError


def refused(status, call):
    try:
        call()
    except ControllerError as error:
        assert error.status == status, error
        return error.body
    raise AssertionError(f"no {status}")


c = Controller()
assert "standard" in [one["tag"] for one in c.list_snapshots()], c.list_snapshots()
refused(404, lambda: c.spawn_sandboxes("no-such-snapshot"))
# forkd's own default for the action: a guest has to boot in it
made = c.spawn_sandboxes("standard", n=3, per_child_netns=True, memory_limit_mib=256, prewarm=True)
ids = [one["id"] for one in made]
assert len(set(ids)) == 3, made
assert sorted(one["id"] for one in c.list_sandboxes()) == sorted(ids)
assert c.get_sandbox(ids[0])["memory_limit_mib"] == 256
for at, id in enumerate(ids):
    ran = c.exec_command(id, ["sh", "-c", f"echo {at} > mine; cat mine; echo oops >&2"])
    assert (ran["stdout"], ran["stderr"], ran["exit_code"]) == (f"{at}\n", "oops\n", 0), ran
for at, id in enumerate(ids):
    assert c.exec_command(id, ["cat", "mine"])["stdout"] == f"{at}\n", "sandboxes share nothing"

# four ways to end, each with what was printed until then
failed = c.exec_command(ids[0], ["sh", "-c", "echo so far; exit 1"])
late = c.exec_command(ids[0], ["sh", "-c", "echo so far; sleep 1000"], timeout_secs=2)
killed = c.exec_command(ids[0], ["sh", "-c", "echo so far; kill -TERM $$"])
absent = c.exec_command(ids[0], ["no-such-program"])
assert [one["exit_code"] for one in (failed, late, killed, absent)] == [1, 124, 143, 127]
assert [one["stdout"] for one in (failed, late, killed)] == ["so far\n"] * 3
assert "no-such-program" in absent["stderr"], absent

assert c.eval_code(ids[1], "sum(range(10))") | {"output": ""} == {
    "result": "45", "error": None, "exit_code": 0, "output": "", "timed_out": False, "truncated": False,
}
wrong = c.eval_code(ids[1], "1 / 0")
assert wrong["exit_code"] == 1 and "ZeroDivisionError" in wrong["error"], wrong
assert c.ping_sandbox(ids[2])["pong"] is True
assert "not there yet" in refused(501, lambda: c.branch_sandbox(ids[2], mode="live"))["error"]
refused(409, lambda: c.delete_snapshot("standard"))

for id in ids:
    assert c.kill_sandbox(id) is None
    refused(404, lambda: c.kill_sandbox(id))
assert c.list_sandboxes() == []
refused(401, lambda: Controller(token="wrong-wrong-wrong-wrong").list_snapshots())
sys.stdout.write("all is well\n")

"""The core's decisions one by one, in a fake kernel: a table of stories."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from harness.world import QUIT, World
from resqued.core import shutdown
from resqued.core.state import Mode, Policy, Stage
from resqued.scoreboard import Phase, Reason


def started(workers: int = 3, **policy) -> World:
    world = World(workers, **policy)
    world.run()
    assert world.ready() == workers
    return world


def busy(world: World, slot: int = 1):
    (worker,) = world.living(slot)
    worker.record = replace(worker.record, phase=Phase.RUNNING, job_id="j1")
    world.turn()
    return worker


def test_a_start_forks_every_wished_worker_and_says_ready_once():
    world = started(3)
    assert world.told_ready == ["start"]
    assert [w.slot for w in world.living()] == [1, 2, 3]


def test_a_dead_worker_is_replaced_at_once_and_recovered():
    world = started(2)
    worker = busy(world)
    world.end_worker(worker, 9)
    world.run()
    assert world.ready() == 2
    assert any("recovered job=j1: requeued" in line for line in world.log)


def test_a_crash_loop_backs_off_and_leaves_the_other_slots_alone():
    world = started(2)
    deaths = []
    for _ in range(8):
        (worker,) = world.living(1)
        world.end_worker(worker, 11)
        deaths.append(world.now)
        while not world.living(1):
            world.run(2)
            if not world.living(1):
                world.now = world.core.next_deadline(world.now)
        world.run()
    gaps = [round(b - a) for a, b in itertools.pairwise(deaths)]
    assert gaps == [0, 1, 2, 4, 8, 16, 30]
    assert len(world.living(2)) == 1


def test_a_minute_of_life_forgets_the_failures():
    world = started(1)
    for _ in range(3):
        world.end_worker(world.living(1)[0], 11)
        world.settle(40)
    world.advance(61)
    world.end_worker(world.living(1)[0], 11)
    world.run()
    assert world.ready() == 1


@pytest.mark.parametrize("reason", [Reason.ASKED, Reason.RECYCLED, Reason.CUT])
def test_a_deliberate_leave_is_no_failure(reason):
    world = started(1)
    for _ in range(5):
        worker = world.living(1)[0]
        worker.record = replace(worker.record, done=1)
        world.leave(worker, reason)
        world.run()
    assert world.ready() == 1
    assert world.state.slot(1).failures == 0


def test_an_unasked_exit_0_is_a_failure():
    world = started(1)
    worker = world.living(1)[0]
    worker.record = replace(worker.record, reason=Reason.LOOP)
    world.end_worker(worker, 0)
    assert world.state.slot(1).failures == 1


def test_quit_waits_for_the_job_and_kills_nobody():
    world = started(2)
    worker = busy(world)
    world.signal("QUIT")
    world.settle(3600)
    assert world.finished is None
    assert world.living() == [worker]
    world.leave(worker, Reason.ASKED)
    world.run()
    assert world.finished == 0


def test_the_grace_ends_a_drain():
    world = started(1, grace=30.0)
    busy(world)
    world.signal("QUIT")
    world.settle()
    assert world.finished == 0
    assert world.state.mode is Mode.OVER


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_stop_now_interrupts_twice_then_kills(name):
    world = started(1)
    worker = busy(world)
    worker.stubborn = True
    began = world.now
    world.signal(name)
    world.settle()
    assert world.finished == 0
    assert 3.0 <= world.now - began <= 5.0


def test_term_during_a_drain_means_now():
    world = started(1, on_term="drain")
    busy(world)
    world.signal("TERM")
    world.run()
    assert world.state.mode is Mode.DRAINING
    world.signal("TERM")
    world.run()
    assert world.finished == 0


def test_the_first_term_leaves_a_drain_alone_where_it_means_drain():
    world = started(1, on_term="drain")
    worker = busy(world)
    world.signal("QUIT")
    world.signal("TERM")
    world.settle(100)
    assert world.living() == [worker]
    assert world.state.mode is Mode.DRAINING
    world.signal("TERM")
    world.run()
    assert world.finished == 0


def test_a_broken_reload_changes_nothing():
    for app in ("broken", "hangs", "bad worker"):
        world = started(2)
        before = sorted(world.workers)
        world.app = app
        world.signal("HUP")
        world.settle()
        assert sorted(world.workers) == before
        assert world.state.current == 1
        assert "failed" in world.state.last_reload
        assert list(world.servers) == [1]


def test_an_invalid_config_starts_nothing():
    world = started(2)
    world.config_valid = False
    world.signal("HUP")
    world.run()
    assert list(world.servers) == [1]
    assert world.state.last_reload == "generation 2: failed: syntax error"


def test_a_reload_proves_itself_before_anybody_is_told_to_leave():
    world = started(2)
    worker = busy(world)
    world.redis = False
    world.signal("HUP")
    world.run()
    world.advance(500)  # only Redis holds it up: it waits, and nobody leaves
    world.run()
    assert all(not w.pending for w in world.living())
    world.redis = True
    world.run()
    assert world.state.current == 2
    assert QUIT in worker.pending
    assert {w.generation for w in world.living()} == {1, 2}
    world.leave(worker, Reason.ASKED)
    world.settle()
    assert {w.generation for w in world.living()} == {2}
    assert list(world.servers) == [2]


def test_a_second_reload_replaces_the_one_that_boots():
    world = started(1)
    world.app = "hangs"
    world.signal("HUP")
    world.run()
    world.app = "good"
    world.signal("HUP")
    world.settle()
    assert world.state.current == 3
    assert list(world.servers) == [3]


def test_winch_stops_the_workers_and_hup_or_ttin_brings_them_back():
    world = started(3)
    world.signal("WINCH")
    world.settle()
    assert world.living() == []
    assert world.finished is None
    world.signal("TTIN")
    world.run()
    assert world.ready() == 1
    world.signal("WINCH")
    world.run()
    world.signal("HUP")
    world.settle()
    assert world.ready() == 3
    assert world.state.difference == 0


def test_ttin_and_ttou_replace_only_workers_whose_queues_change():
    world = started(4)
    before = {w.slot: w.pid for w in world.living()}
    world.signal("TTIN")
    world.run()
    assert {w.slot: w.pid for w in world.living() if w.slot < 5} == before
    world.signal("TTIN")  # 6 workers: worker 3 serves b now
    world.run()
    after = {w.slot: w.pid for w in world.living()}
    assert after[3] != before[3]
    assert {slot: after[slot] for slot in (1, 2, 4)} == {s: before[s] for s in (1, 2, 4)}


def test_growth_past_the_plan_is_refused():
    world = started(2)
    world.largest = 2
    world.signal("TTIN")
    world.run()
    assert world.ready() == 2
    assert any("the count stays at 2" in line for line in world.log)


def test_the_difference_survives_a_reload():
    world = started(2)
    world.signal("TTIN")
    world.run()
    world.config = Policy(workers=4)
    world.signal("HUP")
    world.settle()
    assert (world.state.target, world.state.difference, world.ready()) == (5, 1, 5)


def test_a_lost_fork_server_gets_a_successor_of_its_generation():
    world = started(2)
    worker = busy(world)
    world.end_server(1, 9)
    world.run()
    assert worker in world.living()  # it finishes its job
    assert world.servers[1].loaded
    world.leave(worker, Reason.ORPHANED)
    world.settle()
    assert world.ready() == 2


def test_a_hung_fork_server_is_killed_and_its_killed_worker_reported():
    world = started(1)
    worker = busy(world)
    world.servers[1].hung = True
    worker.stubborn = True
    world.signal("TERM")
    began = world.now
    while world.finished is None and world.now - began < 60:
        world.settle(10)
        for zombie in [w for w in world.workers.values() if w.parent is None]:
            world.end_worker(zombie, 9)
        world.advance(1)
    assert world.finished == 0


def test_the_first_generation_failing_to_load_is_the_end():
    world = World(2)
    world.servers[1].config = "broken"
    world.settle()
    assert world.finished == 78


def test_every_slot_dying_three_times_at_the_start_is_the_end():
    world = World(2)
    world.servers[1].config = "bad worker"
    world.settle()
    assert world.finished == 70


@pytest.mark.parametrize("name", ["TERM", "QUIT", "INT"])
def test_a_stop_while_the_app_loads_is_prompt(name):
    world = World(2)
    world.servers[1].config = "hangs"
    world.run()
    world.signal(name)
    world.run()
    assert world.finished == 0
    assert world.servers == {}


def test_a_stuck_worker_is_dumped_then_killed():
    world = started(1)
    worker = busy(world)
    worker.stubborn = True
    worker.record = replace(worker.record, deadline=world.now + 10)
    world.turn()
    world.settle()
    assert worker.pid not in world.workers or world.workers[worker.pid] is not worker
    assert any("its stacks follow" in line for line in world.log)
    assert any("killed: stuck" in line for line in world.log)


def test_nobody_is_judged_right_after_a_suspend():
    world = started(1)
    worker = busy(world)
    worker.record = replace(worker.record, deadline=world.now + 10)
    world.turn()
    world.advance(100)
    world.turn(overslept=True)
    assert world.judged == []
    worker.record = replace(worker.record, deadline=world.now + 10)  # it woke, and promised anew
    world.advance(5)
    world.turn()
    world.advance(4)
    world.turn()
    assert world.judged == []


def test_unrecovered_jobs_are_named_and_exit_75():
    world = started(1)
    worker = busy(world)
    worker.stubborn = True
    world.answers_recovery = False
    began = world.now
    world.signal("TERM")
    world.settle()
    assert world.finished == 75
    assert world.now - began <= 5.5
    assert any("without having recovered: j1" in line for line in world.log)


def test_a_burst_ends_when_every_worker_has_left_its_word():
    world = started(2, burst=True)
    for worker in world.living():
        world.leave(worker, Reason.BURST)
    world.settle()
    assert world.finished == 0


def test_reexec_keeps_the_workers_and_then_reloads():
    world = started(2)
    before = sorted(world.workers)
    world.signal("USR2")
    world.end_check()
    assert world.execs == 1
    assert sorted(world.workers) == before
    world.settle()
    assert world.state.current == 2
    assert world.state.generations[2].stage is Stage.READY
    assert world.told_ready == ["start", "re-exec"]


def test_a_failed_check_changes_nothing():
    world = started(1)
    world.signal("USR2")
    world.end_check("exit status 78")
    world.run()
    assert (world.execs, world.state.current) == (0, 1)


def test_a_reload_that_was_left_to_the_re_exec_happens_though_its_check_fails():
    world = started(1)
    world.signal("USR2")
    world.signal("HUP")
    world.run()
    assert world.state.numbers == 1
    world.end_check("exit status 78")
    world.settle()
    assert (world.execs, world.state.current) == (0, 2)


def test_an_exec_that_fails_is_told_and_may_be_tried_again():
    world = started(1)
    world.fails_exec = "no such file"
    world.signal("USR2")
    world.end_check()
    assert "ERROR re-exec abandoned: no such file" in world.log
    world.fails_exec = ""
    world.signal("USR2")
    world.end_check()
    assert world.execs == 1


def test_reexec_waits_for_a_generation_that_boots():
    world = started(1)
    world.redis = False
    world.signal("HUP")
    world.run()
    world.signal("USR2")
    world.run()
    assert world.state.reexec == "wanted"
    world.redis = True
    world.settle()
    assert world.state.reexec == "checking"


@pytest.mark.parametrize(("status", "code", "tries"), [(9, 70, 6), (11, 78, 3)])
def test_a_fork_server_that_is_killed_while_it_first_loads_is_tried_again(status, code, tries):
    world = World(1)
    world.app = "hangs"
    for _ in range(tries):
        assert world.finished is None
        for server in world.servers.values():
            server.config = "hangs"
        world.end_server(1, status)
        world.settle(10)
    assert world.finished == code


def test_deaths_before_a_fork_server_was_steady_do_not_count_for_the_end_of_the_start():
    """Redis is away, so no worker is ready; the third death comes after a minute in service."""
    world = World(1)
    world.redis = False
    world.settle(5)
    for then in (0, 70, 0, 0):
        world.end_server(1, 11)
        world.settle(5)
        assert world.finished is None
        world.advance(then)
    world.end_server(1, 11)
    world.settle(5)
    assert world.finished == 70


def test_a_fork_server_that_was_killed_once_while_it_first_loads_comes_up():
    world = World(1)
    world.end_server(1, 9)
    world.settle(5)
    assert world.ready() == 1


@pytest.mark.parametrize("status", [11, 3 << 8])
def test_an_end_in_its_exit_is_no_failure_of_the_slot(status):
    world = started(1)
    for _ in range(5):
        (worker,) = world.living(1)
        worker.record = replace(worker.record, phase=Phase.LEFT, reason=Reason.RECYCLED, done=1)
        world.end_worker(worker, status)
        world.run()
        assert world.ready() == 1, "the successor comes at once"
    assert world.core.state.slot(1).failures == 0
    assert not [line for line in world.log if "next try" in line]


def test_a_fork_server_has_time_for_its_exit_after_a_drain_and_little_at_a_stop():
    world = started(1, exit_timeout=20.0)
    world.core.state.mode = Mode.DRAINING
    assert shutdown._retire_wait(world.core.state) > 40
    world.core.state.mode = Mode.STOPPING
    assert shutdown._retire_wait(world.core.state) == shutdown.RETIRE_WAIT


# A start that is hopeless, and one that is killed from outside.


def kill_at_boot(world: World, status: int, seconds: float) -> list[float]:
    """End every worker as soon as there is one, until it is given up or so long. When, from now."""
    world.redis = False  # nobody becomes ready
    began, deaths = world.now, []
    while world.finished is None and world.now - began < seconds:
        for worker in world.living():
            world.end_worker(worker, status)
            deaths.append(world.now - began)
        world.run(2)
        if not world.living() and world.finished is None:
            world.now = world.core.next_deadline(world.now)
            world.run(2)
    return deaths


@pytest.mark.parametrize("status", [11, 6, 1 << 8, 78 << 8])
def test_a_start_is_given_up_when_every_worker_has_crashed_three_times(status):
    world = World(2)
    world.run(1)
    deaths = kill_at_boot(world, status, 100)
    assert world.finished == 70
    assert (len(deaths), deaths[-1]) == (6, 1)


def test_a_start_whose_workers_are_killed_from_outside_has_a_quarter_of_a_minute():
    """By somebody, or for want of memory, which looks the same."""
    world = World(2)
    world.run(1)
    deaths = kill_at_boot(world, 9, 100)
    assert world.finished == 70
    assert (len(deaths), deaths[-1]) == (12, 15)
    assert any("killed (SIGKILL) 6 times" in line for line in world.log)


def test_a_start_whose_workers_are_killed_for_a_while_comes_up():
    world = World(3)
    world.run(1)
    kill_at_boot(world, 9, 8)
    world.redis = True
    world.settle(60)
    assert world.finished is None
    assert world.ready() == 3


def test_workers_that_crash_are_given_up_though_some_were_killed():
    world = World(1)
    world.run(1)
    kill_at_boot(world, 9, 1)
    kill_at_boot(world, 11, 100)
    assert world.finished == 70


def test_a_worker_that_does_not_boot_in_time_is_not_killed_from_outside():
    world = World(1, boot_timeout=5.0)
    world.run(1)
    for _ in range(3):
        assert world.finished is None
        while not world.living(1):
            world.run(1)
            if not world.living(1):
                world.now = world.core.next_deadline(world.now)
        (worker,) = world.living(1)
        worker.stubborn = True
        worker.record = replace(worker.record, phase=Phase.BOOTING)
        while worker.pid in world.workers and world.workers[worker.pid] is worker:
            world.turn()
            world.now = world.core.next_deadline(world.now)
            world.run(1)
        world.turn()
    world.settle(1)
    assert world.finished == 70

"""The core's decisions about the duties process: which fork server is to have one."""

from __future__ import annotations

from harness.world import World


def started(workers: int = 1) -> World:
    world = World(workers)
    world.run()
    assert world.ready() == workers
    return world


def with_duties(world: World) -> list[int]:
    """Generations whose fork server was told to have a duties process."""
    return [number for number, server in world.servers.items() if server.duties]


def test_the_generation_in_service_has_it():
    assert with_duties(started()) == [1]


def test_a_reload_moves_it_while_workers_of_the_old_generation_still_work():
    world = started()
    (worker,) = world.living()
    worker.stubborn = True
    world.signal("HUP")
    world.run()
    assert sorted(world.servers) == [1, 2]
    assert with_duties(world) == [2]


def test_a_failed_reload_leaves_it():
    world = started()
    world.app = "bad worker"
    world.signal("HUP")
    world.run()
    assert with_duties(world) == [1]


def test_another_fork_server_of_the_generation_has_it_again():
    world = started()
    world.end_server(1, 9)
    world.settle()
    assert with_duties(world) == [1]


def test_a_rest_keeps_it_and_a_drain_ends_it():
    world = started()
    (worker,) = world.living()
    worker.stubborn = True
    world.signal("WINCH")
    world.run()
    assert with_duties(world) == [1]
    world.signal("QUIT")
    world.run()
    assert world.servers
    assert with_duties(world) == []


def test_a_message_that_could_not_be_sent_is_sent_again():
    world = World(1)
    world.broken.add("Send")
    world.run()
    assert with_duties(world) == []
    world.broken.clear()
    world.run()
    assert with_duties(world) == [1]

from proxy.session.ids import StreamIds


def test_ids_are_long_and_never_the_same_twice() -> None:
    ids = StreamIds()
    made = [ids.new() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert {len(one) for one in made} == {48}  # 128 bits of chance and 64 of proof


def test_an_id_is_known_again() -> None:
    ids = StreamIds()
    assert ids.issued(ids.new())


def test_ids_are_known_wherever_the_key_is() -> None:
    one, other, stranger = StreamIds(b"k" * 32), StreamIds(b"k" * 32), StreamIds(b"s" * 32)
    made = one.new()
    assert other.issued(made)
    assert not stranger.issued(made)
    assert other.new() != made


def test_the_ids_of_others_are_not_ours() -> None:
    ids = StreamIds()
    made = ids.new()
    for other in (
        "",
        "x",
        "ünïcode",
        "0" * 48,
        made[:-1],
        made + "0",
        made[1:] + made[0],
        made[:32],
        made.upper() if made.upper() != made else "A" * 48,
        StreamIds().new(),
    ):
        assert not ids.issued(other)

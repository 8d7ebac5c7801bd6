"""One connection's state machine and the dialect around it, without a socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.errors import DeviceRefused, ProtocolViolation, RejectRecord
from pulseweir.ingest.hub.dialect import (
    Properties,
    bag_of,
    format_bag,
    parse_bag,
    parse_username,
    system_head,
    system_properties_json,
)
from pulseweir.ingest.hub.http_messages import HttpMessage, parse_batch, properties_of
from pulseweir.ingest.hub.packets import (
    CONNACK_LEVEL_5_UNSUPPORTED,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    Will,
    encode,
)
from pulseweir.ingest.hub.session import Event, Left, Session, Telemetry

HOSTS = frozenset({"hub", "localhost"})
EVENTS = "devices/d/messages/events/"


def connect(client_id: str = "d", level: int = 4, will: Will | None = None) -> Connect:
    return Connect(level, client_id, 60, True, "hub/d", b"token", will)


def publish(topic: str = EVENTS, payload: bytes = b"{}", qos: int = 1, *, retain: bool = False) -> Publish:
    return Publish(topic, payload, qos, 7 if qos else 0, retain, duplicate=False)


def receive(session: Session, *packets: Packet) -> list[Event]:
    return list(session.receive(b"".join(map(encode, packets))))


@pytest.fixture
def session() -> Session:
    accepted = Session(1_000)
    receive(accepted, connect())
    accepted.accept("d", connect())
    assert accepted.take_output() == encode(Connack(session_present=False, code=0))
    return accepted


def test_a_message_is_acknowledged_only_when_told(session: Session) -> None:
    events = receive(session, publish(EVENTS + "%24.mid=m1&ward=A"))

    assert events == [Telemetry(b"{}", Properties({"ward": "A"}, {"message-id": "m1"}), 7)]
    assert session.take_output() == b""
    session.acknowledge([7])
    assert session.take_output() == b"\x40\x02\x00\x07"


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (publish("devices/other/messages/events/"), "wrong-topic"),
        (publish("somewhere"), "wrong-topic"),
        (publish(qos=2), "qos-2"),
        (publish(payload=bytes(1_001)), "oversize"),
        (publish(payload=bytes(70_000)), "oversize"),
        (publish(EVENTS + "&".join(f"p{i}=1" for i in range(101))), "too-many-properties"),
        (connect(), "malformed-packet"),
        (Connack(session_present=False, code=0), "malformed-packet"),
        (Disconnect(), "disconnect"),
    ],
)
def test_what_ends_a_connection_has_a_reason(session: Session, packet: Packet, reason: str) -> None:
    events = receive(session, publish(), packet, publish())

    assert [type(event) for event in events] == [Telemetry, Left]
    assert events[-1] == Left(reason)
    assert session.is_over


def test_the_first_packet_must_be_connect() -> None:
    for packet in (publish(), Pingreq(), Subscribe(1, (("a", 0),))):
        assert receive(Session(1_000), packet) == [Left("not-connected")]


def test_level_5_is_told_so_in_its_own_words() -> None:
    session = Session(1_000)

    assert receive(session, connect(level=5)) == [Left("unsupported-level")]
    assert session.take_output() == CONNACK_LEVEL_5_UNSUPPORTED


def test_level_3_and_an_empty_client_id_get_their_codes() -> None:
    for packet, code in ((connect(level=3), 1), (connect(client_id=""), 2)):
        session = Session(1_000)
        receive(session, packet)
        assert session.take_output() == encode(Connack(session_present=False, code=code))
        assert session.is_over


def test_only_a_device_s_own_filters_are_granted_at_most_at_qos_1(session: Session) -> None:
    filters = (
        ("devices/d/messages/devicebound/#", 2),
        ("$iothub/methods/POST/#", 0),
        ("$iothub/twin/res/#", 1),
        ("devices/other/messages/devicebound/#", 1),
        ("#", 0),
    )

    receive(session, Subscribe(3, filters))

    assert session.take_output() == encode(Suback(3, (1, 0, 1, 0x80, 0x80)))


def test_a_ping_is_answered(session: Session) -> None:
    receive(session, Pingreq())

    assert session.take_output() == encode(Pingresp())


def test_a_retained_message_says_so_in_a_property(session: Session) -> None:
    (event,) = receive(session, publish(retain=True))

    assert isinstance(event, Telemetry)
    assert event.properties.application == {"mqtt-retain": "true"}


def test_a_will_is_kept_until_the_client_leaves_in_peace() -> None:
    will = Will(EVENTS + "a=b", b"gone", 1, retain=False)
    for packets, expected in (
        ((), Telemetry(b"gone", Properties({"a": "b", "iothub-MessageType": "Will"}, {}), 0)),
        ((Disconnect(),), None),
    ):
        session = Session(1_000)
        receive(session, connect(will=will))
        session.accept("d", connect(will=will))
        receive(session, *packets)
        assert session.take_will() == expected


def test_a_will_to_somewhere_else_is_not_accepted() -> None:
    with pytest.raises(ProtocolViolation):
        Session(1_000).accept("d", connect(will=Will("devices/e/messages/events/", b"", 0, retain=False)))


@given(st.lists(st.binary(max_size=80), max_size=5))
def test_no_bytes_of_a_connected_client_break_the_session(chunks: list[bytes]) -> None:
    session = Session(1_000)
    receive(session, connect())
    session.accept("d", connect())
    for chunk in chunks:
        for event in session.receive(chunk):
            assert isinstance(event, Telemetry | Left)
        if session.is_over:
            break


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: not name.startswith("$.")
)
contents = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.dictionaries(names, contents, max_size=10),
    st.dictionaries(st.sampled_from(["message-id", "content-type", "user-id"]), contents),
)
def test_a_property_bag_survives_the_trip(application: dict[str, str], system: dict[str, str]) -> None:
    properties = Properties(application, system)

    assert parse_bag(format_bag(properties)) == properties


@given(st.text(max_size=60))
def test_no_text_breaks_the_bag(bag: str) -> None:
    properties = parse_bag(bag)
    system_properties_json(system_head("d", 1), "2026-01-01T00:00:00.000Z", properties.system)


def test_creation_time_is_where_templates_look_for_it() -> None:
    for bag in ("$.ctime=2026-01-01T00%3A00%3A00Z", "iothub-creation-time-utc=2026-01-01T00:00:00Z"):
        assert parse_bag(bag).application == {"iothub-creation-time-utc": "2026-01-01T00:00:00Z"}


def test_the_events_topic_may_lack_its_last_slash() -> None:
    assert bag_of("devices/d/messages/events", "d") == ""


@pytest.mark.parametrize(
    "rest",
    ["", "/", "/?api-version=2021-04-12", "/api-version=2016-11-14", "/?api-version=2019-10-01&DeviceClientType=x"],
)
def test_all_documented_user_names_are_taken(rest: str) -> None:
    assert parse_username("HUB/d" + rest, HOSTS) == ("HUB", "d")


@pytest.mark.parametrize(
    ("username", "reason"),
    [
        (None, "malformed-username"),
        ("hub", "malformed-username"),
        ("hub/", "malformed-username"),
        ("hub/d/m", "malformed-username"),
        ("elsewhere/d", "wrong-host"),
    ],
)
def test_other_user_names_are_refused(username: str | None, reason: str) -> None:
    with pytest.raises(DeviceRefused) as raised:
        parse_username(username, HOSTS)
    assert raised.value.reason == reason


def test_a_batch_carries_properties_a_message() -> None:
    one = b'{"body":"e30=","properties":{"iothub-messageid":"m1","iothub-app-ward":"A"}}'
    body = b"[" + one + b',{"body":"{}","base64Encoded":false}]'

    assert parse_batch(body) == [
        HttpMessage(b"{}", Properties({"ward": "A"}, {"message-id": "m1"})),
        HttpMessage(b"{}", Properties({}, {})),
    ]


@given(st.binary(max_size=80))
def test_a_batch_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(RejectRecord) as raised:
        parse_batch(body)
    assert raised.value.reason == "malformed-batch"


@pytest.mark.parametrize(
    "body", [b"[]", b'[{"body":1}]', b'[{"body":"e"}]', b'[{"body":"e30=","properties":{"a":1}}]', b"[" * 100_000]
)
def test_a_batch_of_the_wrong_shape_is_refused(body: bytes) -> None:
    with pytest.raises(RejectRecord):
        parse_batch(body)


def test_headers_that_are_no_properties_are_left_out() -> None:
    assert properties_of(
        [("Host", "hub"), ("iothub-creation-time-utc", "t"), ("iothub-contenttype", "application/json")]
    ) == Properties({"iothub-creation-time-utc": "t"}, {"content-type": "application/json"})

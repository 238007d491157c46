"""How results show themselves in a notebook."""

from html.parser import HTMLParser

from support.fake_service import SENTENCE, candidate, first, last, scored, step, text_tokens

from nextok import Client, replies
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types

NASTY = "<script>\"&'\n\x1b[31m"


class Reader(HTMLParser):
    """Collects the text, the tags and the hover texts, and fails on what is not closed."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.titles, self.tags, self.open = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_a_generation_shows_its_text_with_candidates_on_hover(target):
    with Client(target) as client:
        running = client.generate(SENTENCE, top_logprobs=2)
        list(running)
    shown = Reader(running._repr_html_())
    assert "".join(shown.texts) == "I love Generative AI and it.3 tokens, length"
    hovers = [attrs["title"] for tag, attrs in shown.tags if tag == "span"]
    assert hovers[0] == "id 40"
    assert "1. ' and'  50.00%\n2. '.'  25.00%" in hovers[5]


def test_the_more_surprising_a_token_the_stronger_its_colour(target, service):
    steps = [step(0, "a", prob=0.99), step(1, "b", prob=0.3), step(2, "c", prob=0.0001)]
    service.script = [first(), pb.GenerateResponse(steps=steps), last(3)]
    with Client(target) as client:
        running = client.generate("x")
        list(running)
    styles = [attrs["style"] for _, attrs in Reader(running._repr_html_()).tags]
    shades = [float(s.split(",")[3].split(")")[0]) for s in styles if "rgba" in s]
    assert shades == sorted(shades)
    assert 0 < shades[0] < shades[2] == 0.65


def test_prompt_tokens_are_shaded_where_their_log_probabilities_were_sent(target, service):
    scored = [
        types.ScoredToken(token="I"),
        types.ScoredToken(token=" am", logprob=-3.0, rank=9, surprisal=3.0),
    ]
    service.script = [first(), pb.GenerateResponse(prompt_logprobs=scored), last(0)]
    with Client(target) as client:
        running = client.generate("x", prompt_logprobs=True)
        list(running)
    shown = Reader(running._repr_html_())
    assert shown.texts[:2] == ["I", " am"]
    spans = [attrs for tag, attrs in shown.tags if tag == "span"]
    assert "rgba" not in spans[0]["style"]
    assert "rank 9" in spans[1]["title"]


def test_a_generation_shows_itself_before_it_has_begun(target):
    with Client(target) as client, client.generate("x") as running:
        assert "not finished" in running._repr_html_()


def test_text_is_escaped_wherever_it_stands(target, service):
    nasty = step(0, NASTY)
    nasty.top_logprobs.append(candidate(5, NASTY, 0.1, 3))
    service.script = [first([(1, NASTY)]), pb.GenerateResponse(steps=[nasty]), last(1)]
    with Client(target) as client:
        running = client.generate("x")
        (only,) = running
    for shown in (running._repr_html_(), only._repr_html_(), running.prompt.tokens._repr_html_()):
        assert "<script" not in shown
        reader = Reader(shown)
        assert all(tag != "script" for tag, _ in reader.tags)
    assert NASTY in Reader(running._repr_html_()).texts


def test_tokens_show_ids_texts_bytes_and_places():
    tokens = replies.text_tokens(text_tokens([(40, "I"), (1842, " love")]))
    shown = Reader(tokens._repr_html_())
    assert shown.texts[-5:] == ["1842", "' love'", "20 6c 6f 76 65", "1-6", "1-6"]


def test_candidates_have_bars_and_say_what_was_cut():
    cut = candidate(13, ".", 0.25, 2)
    cut.kept, cut.prob = False, 0
    message = pb.Distribution(
        top_logprobs=[candidate(11, "a", 0.5, 1), cut], entropy=1.5, tail_mass=0.25
    )
    shown = Reader(replies.distribution(message)._repr_html_())
    bars = [attrs["style"].split(",.3) ")[1] for _, attrs in shown.tags if "grad" in str(attrs)]
    assert [bar.partition(",")[0] for bar in bars] == ["100.0%", "100.0%", "50.0%", "0.0%"]
    assert shown.texts[-2:] == ["cut", "entropy 1.50 nats, all others 25.00%"]
    message.allowed_mass = 0.5
    assert "the constraint allows 50.00%" in replies.distribution(message)._repr_html_()


def test_a_scored_token_shows_its_candidates_also_where_it_has_no_probability():
    shown = Reader(replies.scored_token(scored(1, " am"))._repr_html_())
    assert shown.texts[0] == "' am'  id 11  50.00%  rank 1"
    first = Reader(replies.scored_token(scored(0, "I", None))._repr_html_())
    assert first.texts[0] == "'I'  id 11"


def test_a_step_and_a_distribution_show_their_candidates(target):
    with Client(target) as client:
        distribution = client.next_token("x")
        step = next(client.generate("x"))
    assert "&#x27; and&#x27;" in distribution._repr_html_()
    assert "50.00%" in step._repr_html_()

"""Small hand-made answers for what the format allows and recordings show seldom."""

import json

import pytest
from tests.adapters.gemini.answers import FAMILY, calls, kinds, sse, streamed, translation, whole

from execution_platform.adapters.errors import AdapterError, OverloadedError, ProtocolError, StreamBrokenError
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.testing import Answer, check_translation
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

END = '{"candidates":[{"finishReason":"STOP"}]}'


def parts(*found: str, rest: str = "") -> str:
    return f'{{"candidates":[{{"content":{{"parts":[{",".join(found)}],"role":"model"}}{rest}}}],"responseId":"R-1"}}'


def answer_of(*chunks: str) -> Answer:
    return check_translation(translation, stream=sse(*chunks), family=FAMILY)


def test_texts_of_following_chunks_join_and_kinds_do_not() -> None:
    """Pieces of one text are one block; a thought between two texts makes three blocks."""
    answer = answer_of(
        parts('{"text":"a"}'),
        parts('{"text":"b"}'),
        parts('{"text":"t","thought":true}'),
        parts('{"text":"u","thought":true}'),
        parts('{"text":"c"}'),
        END,
    )
    assert kinds(answer) == ["text", "thinking", "text"]
    assert [block.text.text or block.thinking.text for block in answer.blocks] == ["ab", "tu", "c"]
    assert answer.blocks[1].thinking.is_summary


def test_texts_within_one_chunk_stay_apart() -> None:
    """Two text parts that Google sends side by side are two blocks."""
    assert kinds(answer_of(parts('{"text":"a"}', '{"text":"b"}'), END)) == ["text", "text"]


def test_a_signed_piece_of_text_is_a_block_of_its_own() -> None:
    """A signature stays with the very part that carried it: neither the text before nor the text after joins it."""
    answer = answer_of(
        parts('{"text":"a"}'), parts('{"text":"b","thoughtSignature":"czE="}'), parts('{"text":"c"}'), END
    )
    assert [block.text.text for block in answer.blocks] == ["a", "b", "c"]
    assert [[(state.kind, state.data) for state in block.states] for block in answer.blocks] == [
        [],
        [("thought_signature", b"czE=")],
        [],
    ]


def test_an_empty_signed_text_is_a_block() -> None:
    """The trailing empty text whose only content is a signature is kept; an unsigned empty one says nothing."""
    answer = answer_of(parts('{"text":"a"}'), parts('{"text":"","thoughtSignature":"czI="}'), parts('{"text":""}'), END)
    assert [block.text.text for block in answer.blocks] == ["a", ""]
    assert answer.blocks[1].states[0].data == b"czI="


def test_a_part_that_is_only_a_signature_is_a_block() -> None:
    """A signature without any content is kept on an empty text."""
    answer = answer_of(parts('{"thoughtSignature":"czM="}'), END)
    assert kinds(answer) == ["text"]
    assert answer.blocks[0].states[0].data == b"czM="


def test_call_ids_are_minted_only_where_none_is_given() -> None:
    """A call without an id gets one that is unique to the answer and flagged; a given id is kept."""
    answer = answer_of(
        parts('{"functionCall":{"name":"f","args":{}}}', '{"functionCall":{"name":"f","args":{}}}'),
        parts('{"functionCall":{"name":"g","id":"given"}}'),
        END,
    )
    first, second, third = calls(answer)
    assert first.call_id != second.call_id
    assert (first.call_id_minted, second.call_id_minted, third.call_id_minted) == (True, True, False)
    assert (third.call_id, third.arguments_json) == ("given", "")
    assert "R-1" in first.call_id


def test_arguments_keep_their_text() -> None:
    """Order, white space, number forms and integers beyond 2^53 stand as the model wrote them."""
    written = '{"b": 1.0,  "a": 9007199254740993, "c": 1e2, "d": "\\u00e9"}'
    answer = answer_of(parts(f'{{"functionCall":{{"name":"f","args":{written}}}}}'), END)
    assert calls(answer)[0].arguments_json == written


def test_arguments_that_come_value_by_value_become_one_object() -> None:
    """Streamed arguments are put together in the order in which they come, strings piece by piece."""
    answer = answer_of(
        parts('{"functionCall":{"name":"f","willContinue":true},"thoughtSignature":"czQ="}'),
        parts(
            '{"functionCall":{"partialArgs":[{"jsonPath":"$.title","stringValue":"La","willContinue":true}],'
            '"willContinue":true}}'
        ),
        parts(
            '{"functionCall":{"partialArgs":[{"jsonPath":"$.title","stringValue":"s \\"x\\""},'
            '{"jsonPath":"$.list[0].n","numberValue":1.50},{"jsonPath":"$.list[0].ok","boolValue":true},'
            '{"jsonPath":"$.list[1]","nullValue":"NULL_VALUE"}],"willContinue":true}}'
        ),
        parts('{"functionCall":{}}'),
        END,
    )
    (call,) = calls(answer)
    assert call.arguments_json == '{"title":"Las \\"x\\"","list":[{"n":1.50,"ok":true},null]}'
    assert answer.blocks[0].states[0].data == b"czQ="
    assert answer.finished is not None
    assert answer.finished.reason == chat_pb2.FINISH_REASON_TOOL_CALLS


@pytest.mark.parametrize(
    "paths",
    [["$.a[0]", "$.a[2]"], ["$.a[0]", "$.a.b"], ["$.a", "$.a.b"], ["$.a", "$.a"], ["$[0]"], ["$"], ["nonsense"]],
)
def test_partial_arguments_that_cannot_be_joined_are_an_error(paths: list[str]) -> None:
    """A path that goes back, skips an item or is none breaks the protocol."""
    listed = ",".join(f'{{"jsonPath":"{path}","numberValue":1}}' for path in paths)
    chunk = parts(f'{{"functionCall":{{"name":"f","partialArgs":[{listed}]}}}}')
    one = translation()
    with pytest.raises(ProtocolError):
        one.feed(sse(chunk))


def test_code_and_its_result_belong_together() -> None:
    """Code that Google ran is a call and its outcome the result of that call, also where neither has an id."""
    answer = answer_of(
        parts('{"executableCode":{"language":"PYTHON","code":"1+1"}}'),
        parts('{"codeExecutionResult":{"outcome":"OUTCOME_FAILED","output":"no"}}'),
        END,
    )
    call, result = answer.blocks[0].tool_call, answer.blocks[1].tool_result
    assert call.executed_by == result.executed_by == content_pb2.TOOL_EXECUTOR_PROVIDER
    assert call.arguments_json == '{"language":"PYTHON","code":"1+1"}'
    assert result.call_id == call.call_id
    assert result.is_error
    assert answer.finished is not None
    assert answer.finished.reason == chat_pb2.FINISH_REASON_STOP


def test_audio_joins_and_images_do_not() -> None:
    """Pieces of audio of one type are one block, each image is one."""
    answer = answer_of(
        parts('{"inlineData":{"mimeType":"audio/L16;rate=24000","data":"AAE="}}'),
        parts('{"inlineData":{"mimeType":"audio/L16;rate=24000","data":"AgM="}}'),
        parts('{"inlineData":{"mimeType":"image/png","data":"iVA="}}'),
        parts('{"inlineData":{"mimeType":"image/png","data":"iVA="},"thought":true}'),
        END,
    )
    media = [block.media for block in answer.blocks]
    assert [(one.mime_type, one.data) for one in media] == [
        ("audio/L16;rate=24000", b"\x00\x01\x02\x03"),
        ("image/png", b"\x89P"),
        ("image/png", b"\x89P"),
    ]
    assert answer.blocks[2].provider_metadata_json == '{"thought":true}'


def test_a_file_is_a_media_block() -> None:
    """A file that the answer points to keeps its address, type and name."""
    answer = answer_of(parts('{"fileData":{"mimeType":"video/mp4","fileUri":"gs://b/v","displayName":"v"}}'), END)
    media = answer.blocks[0].media
    assert (media.mime_type, media.uri, media.filename) == ("video/mp4", "gs://b/v", "v")


@pytest.mark.parametrize(
    ("word", "reason", "told"),
    [
        ('"STOP"', chat_pb2.FINISH_REASON_STOP, "STOP"),
        ("1", chat_pb2.FINISH_REASON_STOP, "1"),
        ("2", chat_pb2.FINISH_REASON_MAX_TOKENS, "2"),
        ("10", chat_pb2.FINISH_REASON_MALFORMED_OUTPUT, "10"),
        ('"CONTINUATION"', chat_pb2.FINISH_REASON_PAUSED, "CONTINUATION"),
        ('"MODEL_ARMOR"', chat_pb2.FINISH_REASON_CONTENT_FILTER, "MODEL_ARMOR"),
        ('"IMAGE_RECITATION"', chat_pb2.FINISH_REASON_CONTENT_FILTER, "IMAGE_RECITATION"),
        ('"NO_IMAGE"', chat_pb2.FINISH_REASON_OTHER, "NO_IMAGE"),
        ('"MISSING_THOUGHT_SIGNATURE"', chat_pb2.FINISH_REASON_OTHER, "MISSING_THOUGHT_SIGNATURE"),
        ('"SOMETHING_NEW"', chat_pb2.FINISH_REASON_OTHER, "SOMETHING_NEW"),
        ("99", chat_pb2.FINISH_REASON_OTHER, "99"),
    ],
)
def test_finish_reasons(word: str, reason: chat_pb2.FinishReason.ValueType, told: str) -> None:
    """Names, numbers and unknown words of the finish reason are told in the contract's and in the provider's words."""
    answer = answer_of(parts('{"text":"a"}', rest=f',"finishReason":{word}'))
    assert answer.finished is not None
    assert (answer.finished.reason, answer.finished.provider_finish_reason) == (reason, told)


def test_a_blocked_answer_tells_why() -> None:
    """A filter's stop carries the category, the message and the ratings, and is no refusal of the prompt."""
    ratings = '[{"category":"HARM_CATEGORY_HARASSMENT","probability":"HIGH","blocked":true}]'
    answer = answer_of(f'{{"candidates":[{{"finishReason":"SAFETY","finishMessage":"no","safetyRatings":{ratings}}}]}}')
    assert answer.finished is not None
    refusal = answer.finished.refusal
    assert (refusal.category, refusal.explanation, refusal.raw_json) == ("SAFETY", "no", ratings)
    assert not refusal.prompt_blocked


def test_a_blocked_prompt_is_an_answer() -> None:
    """Feedback without candidates is finished: the prompt was blocked, and what it used is told."""
    feedback = '{"blockReason":"PROHIBITED_CONTENT","blockReasonMessage":"m"}'
    answer = answer_of(f'{{"promptFeedback":{feedback},"usageMetadata":{{"promptTokenCount":4,"totalTokenCount":4}}}}')
    assert answer.finished is not None
    assert answer.finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    refusal = answer.finished.refusal
    assert (refusal.category, refusal.explanation, refusal.prompt_blocked) == ("PROHIBITED_CONTENT", "m", True)
    assert refusal.raw_json == feedback
    assert [item.quantity for item in answer.finished.usage.items] == [4]


def test_further_candidates_are_kept_as_json() -> None:
    """Only the first candidate is the answer; the others stand verbatim in the metadata, chunk by chunk."""
    second = '{"content":{"parts":[{"text":"B"}]},"index":1}'
    answer = answer_of(
        f'{{"candidates":[{{"content":{{"parts":[{{"text":"A"}}]}}}},{second}]}}',
        f'{{"candidates":[{second}]}}',
        END,
    )
    assert answer.text() == "A"
    assert answer.finished is not None
    assert json.loads(answer.finished.provider_metadata_json)["otherCandidates"] == [json.loads(second)] * 2


def test_usage_is_split_by_modality() -> None:
    """Each modality of prompt, cache and answer is an item; cached tokens are taken out of the prompt's modality."""
    usage = (
        '{"promptTokenCount":100,"cachedContentTokenCount":40,"candidatesTokenCount":7,"thoughtsTokenCount":3,'
        '"toolUsePromptTokenCount":5,"totalTokenCount":115,"serviceTier":"flex","trafficType":"ON_DEMAND",'
        '"promptTokensDetails":[{"modality":"TEXT","tokenCount":60},{"modality":"IMAGE","tokenCount":40}],'
        '"cacheTokensDetails":[{"modality":"TEXT","tokenCount":40}],'
        '"candidatesTokensDetails":[{"modality":4,"tokenCount":5}]}'
    )
    answer = whole(f'{{"candidates":[{{"finishReason":"STOP"}}],"usageMetadata":{usage}}}'.encode())
    assert answer.usage is not None
    found = [(item.kind, item.modality, item.quantity) for item in answer.usage.items]
    assert found == [
        (usage_pb2.USAGE_KIND_INPUT, content_pb2.MODALITY_TEXT, 20),
        (usage_pb2.USAGE_KIND_INPUT, content_pb2.MODALITY_IMAGE, 40),
        (usage_pb2.USAGE_KIND_CACHE_READ, content_pb2.MODALITY_TEXT, 40),
        (usage_pb2.USAGE_KIND_TOOL_INPUT, content_pb2.MODALITY_UNSPECIFIED, 5),
        (usage_pb2.USAGE_KIND_OUTPUT, content_pb2.MODALITY_AUDIO, 5),
        (usage_pb2.USAGE_KIND_OUTPUT, content_pb2.MODALITY_UNSPECIFIED, 2),
        (usage_pb2.USAGE_KIND_REASONING, content_pb2.MODALITY_UNSPECIFIED, 3),
    ]
    assert answer.usage.service_tier == "flex"
    assert answer.usage.provider_usage_json == usage


def test_a_prompt_that_was_not_cached_keeps_its_modalities() -> None:
    """Without a cache the prompt is split all the same: audio costs more than text."""
    usage = (
        '{"promptTokenCount":125,"candidatesTokenCount":1,'
        '"promptTokensDetails":[{"modality":"TEXT","tokenCount":6},{"modality":"AUDIO","tokenCount":119}]}'
    )
    answer = whole(f'{{"candidates":[{{"finishReason":"STOP"}}],"usageMetadata":{usage}}}'.encode())
    assert answer.usage is not None
    assert [(item.modality, item.quantity) for item in answer.usage.items[:2]] == [
        (content_pb2.MODALITY_TEXT, 6),
        (content_pb2.MODALITY_AUDIO, 119),
    ]


def test_details_that_do_not_fit_are_not_used() -> None:
    """Details that exceed their count, or a cache of a modality that the prompt has not, leave only the sums."""
    usage = (
        '{"promptTokenCount":10,"cachedContentTokenCount":4,"candidatesTokenCount":2,'
        '"promptTokensDetails":[{"modality":"TEXT","tokenCount":10}],'
        '"cacheTokensDetails":[{"modality":"IMAGE","tokenCount":4}],'
        '"candidatesTokensDetails":[{"modality":"TEXT","tokenCount":9}]}'
    )
    answer = whole(f'{{"candidates":[{{"finishReason":"STOP"}}],"usageMetadata":{usage}}}'.encode())
    assert answer.usage is not None
    assert [(item.kind, item.quantity) for item in answer.usage.items] == [
        (usage_pb2.USAGE_KIND_INPUT, 6),
        (usage_pb2.USAGE_KIND_CACHE_READ, 4),
        (usage_pb2.USAGE_KIND_OUTPUT, 2),
    ]


def test_log_probabilities_come_with_their_text() -> None:
    """Tokens carry number, probability and the alternatives at their place; the sum stays in the metadata."""
    result = (
        '{"chosenCandidates":[{"token":"a","tokenId":7,"logProbability":-0.5}],'
        '"topCandidates":[{"candidates":[{"token":"a","tokenId":7,"logProbability":-0.5},{"token":"b"}]}],'
        '"logProbabilitySum":-0.5}'
    )
    rest = f',"finishReason":"STOP","avgLogprobs":-0.25,"logprobsResult":{result}'
    answer = answer_of(parts('{"text":"a"}', rest=rest))
    (token,) = answer.logprobs[0]
    assert (token.token, token.token_id, token.logprob) == ("a", 7, -0.5)
    assert [one.token for one in token.top] == ["a", "b"]
    assert answer.finished is not None
    kept = json.loads(answer.finished.provider_metadata_json)["candidate"]
    assert kept == {"avgLogprobs": -0.25, "logprobsResult": {"logProbabilitySum": -0.5}}


def test_sources_are_placed_by_the_words_that_they_support() -> None:
    """A segment's byte range belongs to the block whose bytes are its words, also beyond ASCII and after thoughts."""
    grounding = (
        '{"groundingChunks":[{"web":{"uri":"https://a.example","title":"A"}},'
        '{"retrievedContext":{"uri":"u","title":"B","text":"quoted","documentName":"d/1"}}],'
        '"groundingSupports":[{"segment":{"startIndex":6,"endIndex":11,"text":"Köln"},"groundingChunkIndices":[0,1]}]}'
    )
    answer = answer_of(
        parts('{"text":"thinking of it","thought":true}'),
        parts('{"text":"Ölig Köln"}', rest=f',"groundingMetadata":{grounding}'),
        END,
    )
    first, second = answer.blocks[1].citations
    assert answer.blocks[1].text.text.encode()[6:11].decode() == "Köln"
    assert (first.uri, first.title, first.provider_type) == ("https://a.example", "A", "groundingSupport")
    assert (second.cited_text, second.source_id) == ("quoted", "d/1")
    assert (first.text_range.start, first.text_range.end) == (6, 11)
    assert first.text_range.unit == content_pb2.CITATION_UNIT_BYTE


def test_sources_told_again_count_once() -> None:
    """A stream that repeats its grounding with every chunk names each source once."""
    grounding = '{"groundingChunks":[{"web":{"uri":"https://a.example"}}]}'
    rest = f',"groundingMetadata":{grounding}'
    answer = answer_of(parts('{"text":"a"}', rest=rest), parts('{"text":"b"}', rest=rest), END)
    assert [one.uri for one in answer.blocks[0].citations] == ["https://a.example"]


def test_sources_without_text_find_a_block() -> None:
    """Sources of an answer that has no text are kept on an empty one."""
    page = '{"urlMetadata":[{"retrievedUrl":"https://a.example","urlRetrievalStatus":"URL_RETRIEVAL_STATUS_SUCCESS"}]}'
    answer = answer_of(f'{{"candidates":[{{"finishReason":"STOP","urlContextMetadata":{page}}}]}}')
    assert [one.uri for block in answer.blocks for one in block.citations] == ["https://a.example"]


def test_half_surrogates_are_joined_across_chunks() -> None:
    """A character whose halves come in two chunks is whole in the text."""
    answer = answer_of(parts('{"text":"a\\ud83d"}'), parts('{"text":"\\ude00b"}'), END)
    assert answer.text() == "a\U0001f600b"


def test_half_surrogates_in_names_are_shown_as_such() -> None:
    """Half a character in a name, a source or a reason, which no piece completes, is U+FFFD."""
    call = parts('{"functionCall":{"name":"f\\ud83d","id":"\\ude00","args":{"a":"\\ud83d"}}}')
    answer = answer_of(call, '{"candidates":[{"finishReason":"A\\ud83d"}],"modelVersion":"m\\ud83d"}')
    [block] = answer.blocks
    assert (block.tool_call.name, block.tool_call.call_id) == ("f\ufffd", "\ufffd")
    assert block.tool_call.arguments_json == '{"a":"\\ud83d"}'
    assert answer.finished is not None
    assert answer.finished.provider_finish_reason == "A\ufffd"
    assert answer.finished.route.served_model == "m\ufffd"


def test_what_is_null_is_as_if_it_were_missing() -> None:
    """Members that are null say nothing, at any depth, and are not kept."""
    chunk = (
        '{"candidates":[{"content":{"parts":[{"text":"a","thoughtSignature":null}],"role":null},"avgLogprobs":null}],'
    )
    answer = answer_of(chunk + '"promptFeedback":null,"modelVersion":null}', '{"candidates":null}', END)
    assert answer.text() == "a"
    assert answer.finished is not None
    assert answer.finished.provider_metadata_json == ""


def test_an_error_in_the_stream_follows_what_was_said() -> None:
    """An error object ends the stream; the text and the usage before it come first, however it is cut."""
    body = sse(
        '{"candidates":[{"content":{"parts":[{"text":"a"}]}}],"usageMetadata":{"promptTokenCount":3}}',
        '{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}',
    )
    answer = check_translation(translation, stream=body, error=OverloadedError, family=FAMILY)
    assert answer.text() == "a"
    assert [item.quantity for item in answer.usage.items] == [3] if answer.usage else False
    assert isinstance(answer.error, AdapterError)
    assert (answer.error.provider_status, answer.error.provider_code) == (200, "UNAVAILABLE")


def test_an_error_before_the_stream_may_come_without_framing() -> None:
    """One plain error object, or an array of one, where a stream was expected is that error."""
    error = '{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}'
    for body in (error, f"[{error}\n]", json.dumps(json.loads(error), indent=2)):
        with pytest.raises(OverloadedError):
            streamed([body.encode()])


def test_a_stream_without_a_finish_reason_is_broken() -> None:
    """Text whose stream ends without a finish reason is no answer, whatever was said before."""
    one = translation()
    assert one.feed(sse(parts('{"text":"a"}')))
    with pytest.raises(StreamBrokenError):
        one.end()


def test_nothing_at_all_is_a_broken_stream() -> None:
    """A stream without a byte is broken."""
    with pytest.raises(StreamBrokenError):
        translation().end()


def test_a_paused_answer_keeps_its_token() -> None:
    """The token that lets a cut-off answer go on is state of the last text."""
    rest = ',"finishReason":"CONTINUATION","continuationToken":"dG9r"'
    answer = answer_of(parts('{"text":"a"}', rest=rest))
    assert [(state.kind, state.data) for state in answer.blocks[0].states] == [("continuation_token", b"dG9r")]


def test_events_of_the_provider_come_verbatim_if_asked_for() -> None:
    """With provider_events each chunk comes as it stood; without, none does."""
    chunk = parts('{"text":"a"}')
    answer = streamed([sse(chunk, END)], provider_events=True)
    assert [event.raw_json for event in answer.provider_events] == [chunk, END]
    assert streamed([sse(chunk, END)]).provider_events == []


def test_notices_follow_the_start() -> None:
    """What the request builder has to tell comes right after `started`."""
    notices = Notices(chat_pb2.ChatRequest())
    notices.param_dropped("sampling.logit_bias", "no such option")
    events = translation(notices=notices).feed(sse(parts('{"text":"a"}')))
    assert [event.WhichOneof("event") for event in events[:2]] == ["started", "notice"]


def test_a_done_mark_is_no_chunk() -> None:
    """The end mark that some servers add in OpenAI's manner is passed over."""
    assert streamed([sse(parts('{"text":"a"}'), END, "[DONE]")]).text() == "a"


def test_log_probabilities_without_text_are_kept() -> None:
    """Probabilities that a chunk without text brings are of the last text, or of an empty one if there is none."""
    result = '{"chosenCandidates":[{"token":"a","logProbability":-0.5}]}'
    late = answer_of(parts('{"text":"a"}'), f'{{"candidates":[{{"finishReason":"STOP","logprobsResult":{result}}}]}}')
    assert [token.token for token in late.logprobs[0]] == ["a"]
    alone = answer_of(f'{{"candidates":[{{"finishReason":"STOP","logprobsResult":{result}}}]}}')
    assert kinds(alone) == ["text"]
    assert [token.token for token in alone.logprobs[0]] == ["a"]


def test_many_log_probabilities_stay_below_the_largest_event() -> None:
    """Thousands of tokens with alternatives are spread over several events of at most 1 MiB."""
    alternatives = ",".join(
        '{"token":"twenty characters xx","tokenId":123456,"logProbability":-1.5}' for _ in range(20)
    )
    chosen = ",".join(f'{{"token":"{number}","logProbability":-0.5}}' for number in range(3_000))
    places = ",".join(f'{{"candidates":[{alternatives}]}}' for _ in range(3_000))
    result = f'{{"chosenCandidates":[{chosen}],"topCandidates":[{places}]}}'
    rest = f',"finishReason":"STOP","logprobsResult":{result}'
    answer = whole(parts('{"text":"a"}', rest=rest).encode())
    assert [token.token for token in answer.logprobs[0]] == [str(number) for number in range(3_000)]


def test_a_thought_with_more_to_say_is_a_block_of_its_own() -> None:
    """A thought whose part has further keys keeps them, and the thoughts around it do not join it."""
    answer = answer_of(
        parts('{"text":"a","thought":true}'), parts('{"text":"b","thought":true,"partMetadata":{"x":1}}'), END
    )
    assert [block.thinking.text for block in answer.blocks] == ["a", "b"]
    assert answer.blocks[1].provider_metadata_json == '{"partMetadata":{"x":1}}'


def test_calls_of_googles_tools_without_name_or_id_are_blocks() -> None:
    """A call of Google's own tools that tells neither id nor type is kept, with an id that is flagged."""
    answer = answer_of(parts('{"toolCall":{"args":{"q":1}}}', '{"toolResponse":{"response":{}}}'), END)
    call = answer.blocks[0].tool_call
    assert (call.arguments_json, call.call_id_minted, call.provider_type) == ('{"q":1}', True, "toolCall")
    assert answer.blocks[1].tool_result.structured_content_json == "{}"


def test_a_nameless_call_that_continues_nothing_is_kept() -> None:
    """A function call without a name, where none is open, is an opaque block."""
    answer = answer_of(parts('{"functionCall":{}}'), END)
    assert [(block.opaque.type, block.opaque.json) for block in answer.blocks] == [
        ("functionCall", '{"functionCall":{}}')
    ]


def test_data_that_is_not_base64_breaks_the_protocol() -> None:
    """Inline data that cannot be decoded is an error, not a smaller picture."""
    one = translation()
    with pytest.raises(ProtocolError):
        one.feed(sse(parts('{"inlineData":{"mimeType":"image/png","data":"%%%"}}')))


def test_what_a_later_chunk_tells_of_the_answer_is_kept() -> None:
    """A model or an id that comes after the start stands in the route and the metadata of the end."""
    answer = answer_of(
        '{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}',
        '{"candidates":[{"finishReason":"STOP"}],"modelVersion":"m-1","responseId":"late"}',
    )
    assert answer.finished is not None
    assert answer.finished.route.served_model == "m-1"
    assert json.loads(answer.finished.provider_metadata_json) == {"responseId": "late"}


def test_usage_that_is_null_does_not_replace_what_was_told() -> None:
    """A chunk whose usage is null leaves the counts of the chunk before."""
    usage = '"usageMetadata":{"promptTokenCount":7,"totalTokenCount":7}'
    chunk = '{"candidates":[{"content":{"parts":[{"text":"b"}],"role":"model"}}],"usageMetadata":null}'
    answer = answer_of(parts('{"text":"a"}')[:-1] + f",{usage}}}", chunk, END)
    assert answer.finished is not None
    assert [item.quantity for item in answer.finished.usage.items] == [7]


@pytest.mark.parametrize("count", ["1e300", "1" + "0" * 30, '"' + "9" * 25 + '"', "-5", "true", '"x"', "{}"])
def test_counts_that_are_none_are_not_counted(count: str) -> None:
    """A count that no field can hold is left to the provider's own JSON; the others count."""
    usage = f'{{"promptTokenCount":{count},"candidatesTokenCount":"3"}}'
    answer = answer_of(parts('{"text":"a"}'), f'{{"candidates":[{{"finishReason":"STOP"}}],"usageMetadata":{usage}}}')
    assert answer.finished is not None
    assert [item.quantity for item in answer.finished.usage.items] == [3]
    assert answer.finished.usage.provider_usage_json == usage


@pytest.mark.parametrize(("tier", "told"), [('"a\\ud83d"', "a\ufffd"), ("2", "2"), ("[1]", ""), ("true", "")])
def test_a_tier_is_a_word_or_a_number(tier: str, told: str) -> None:
    """The tier is told as the provider's word, also where half a character ends it; anything else is none."""
    body = f'{{"candidates":[{{"finishReason":"STOP"}}],"usageMetadata":{{"trafficType":{tier}}}}}'
    finished = translation().whole(body.encode())[-1].finished
    assert finished.usage.service_tier == told


def test_names_that_come_late_are_told() -> None:
    """A model or an identifier that only a later chunk of text names is told at the end."""
    late = '{"candidates":[{"content":{"parts":[{"text":"b"}]}}],"modelVersion":"m-2","responseId":"R-2"}'
    answer = answer_of('{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}', late, END)
    assert answer.text() == "ab"
    assert answer.finished is not None
    assert answer.finished.route.served_model == "m-2"
    assert json.loads(answer.finished.provider_metadata_json) == {"responseId": "R-2"}


def test_what_later_pieces_of_a_call_say_is_kept() -> None:
    """Keys beside the pieces of a call that comes in several parts are the call's metadata."""
    answer = answer_of(
        parts('{"functionCall":{"name":"f","willContinue":true,"a":1},"x":1}'),
        parts(
            '{"functionCall":{"partialArgs":[{"jsonPath":"$.n","numberValue":2}],"willContinue":true,"b":2.0},"y":2}'
        ),
        parts('{"functionCall":{}}'),
        END,
    )
    [call] = calls(answer)
    assert call.arguments_json == '{"n":2}'
    assert json.loads(answer.blocks[0].provider_metadata_json) == {"x": 1, "y": 2, "functionCall": {"a": 1, "b": 2.0}}


def test_what_is_said_beside_citations_and_log_probabilities_is_kept() -> None:
    """Unknown keys beside citations, and alternatives without a chosen token, are the candidate's metadata."""
    beside = '"citationMetadata":{"citations":[{"uri":"u"}],"new":1.0}'
    places = '{"candidates":[{"token":"a","logProbability":"-Infinity"}]},{"candidates":[{"token":"b"}]}'
    logs = f'"logprobsResult":{{"chosenCandidates":[{{"token":"a"}}],"topCandidates":[{places}]}}'
    candidate = f'{{"content":{{"parts":[{{"text":"a"}}]}},"finishReason":"STOP",{beside},{logs}}}'
    answer = whole(f'{{"candidates":[{candidate}]}}'.encode())
    assert answer.finished is not None
    assert json.loads(answer.finished.provider_metadata_json)["candidate"] == {
        "citationMetadata": {"new": 1.0},
        "logprobsResult": {"topCandidates": [{"candidates": [{"token": "b"}]}]},
    }
    [token] = answer.logprobs[0]
    assert [other.logprob for other in token.top] == [float("-inf")]

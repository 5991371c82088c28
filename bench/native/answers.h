/* What the fake provider says: the shapes and sizes of real OpenAI and Anthropic answers, with text that means nothing. */
#ifndef ANSWERS_H
#define ANSWERS_H

#define WORDS_1K                                                                                                      \
    "A gateway stands between those who ask and those who answer. It knows who calls, what they may spend and where " \
    "the call should go; it streams the answer back and writes down what it cost. The clerk at the gate counts each " \
    "cart, takes the toll, and waves it on: the road behind stays clear, and the book at the end of the day agrees "  \
    "with the box. Nothing that passes is changed without a word, nothing is counted twice, and nothing is forgotten " \
    "when the lamp goes out. That is all that is asked of it, and it is asked of it many times in every second, by "  \
    "people who would rather not know that it is there. So it had better be quick, and it had better be exact, and "  \
    "when it must refuse it should say why in words that the one who hears them can use. This paragraph exists to "   \
    "be about as long as an ordinary answer of a small chat model, which is about a thousand letters, two hundred "   \
    "words or so (a little more, because the people who ask for short answers seldom get them, and the ones who pay " \
    "by the word seldom ask), and it has by now come to its end, as every honest answer must do sooner or later."

/* One Chat Completions answer, about 1.8 KB with its head. */
#define OPENAI_JSON                                                                                                 \
    "{\"id\":\"chatcmpl-BnqVfdoEXUWlBOzvaEMMdZvzgJHQ4\",\"object\":\"chat.completion\",\"created\":1753607431,"      \
    "\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":" \
    "\"" WORDS_1K "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"         \
    "\"usage\":{\"prompt_tokens\":212,\"completion_tokens\":201,\"total_tokens\":413,\"prompt_tokens_details\":"    \
    "{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,"               \
    "\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}},"                       \
    "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\"}"

/* One Messages answer, about 1.5 KB with its head. */
#define ANTHROPIC_JSON                                                                                               \
    "{\"id\":\"msg_01Lcf2EVgz1Kc4eB6cY2Wm4N\",\"type\":\"message\",\"role\":\"assistant\",\"model\":"                \
    "\"claude-sonnet-4-5-20250929\",\"content\":[{\"type\":\"text\",\"text\":\"" WORDS_1K "\"}],"                    \
    "\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":212,"                           \
    "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"cache_creation\":"                            \
    "{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},\"output_tokens\":201,"                       \
    "\"service_tier\":\"standard\"}}"

#define OPENAI_CHUNK(choices, usage, padding)                                                                   \
    "data: {\"id\":\"chatcmpl-BnqVfdoEXUWlBOzvaEMMdZvzgJHQ4\",\"object\":\"chat.completion.chunk\",\"created\":" \
    "1753607431,\"model\":\"gpt-4o-mini-2024-07-18\",\"system_fingerprint\":"      \
    "\"fp_560af6e559\",\"choices\":" choices ",\"usage\":" usage ",\"obfuscation\":\"" padding "\"}\n\n"

#define OPENAI_CHOICE(delta, finish) \
    "[{\"index\":0,\"delta\":" delta ",\"logprobs\":null,\"finish_reason\":" finish "}]"

#define OPENAI_ROLE \
    OPENAI_CHUNK(OPENAI_CHOICE("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", "null"), "null", "rq7W")
/* About 300 bytes, as OpenAI's are. */
#define OPENAI_WORD OPENAI_CHUNK(OPENAI_CHOICE("{\"content\":\" gateway\"}", "null"), "null", "9aKx")
#define OPENAI_FINISH OPENAI_CHUNK(OPENAI_CHOICE("{}", "\"stop\""), "null", "w0")
#define OPENAI_USAGE                                                                                            \
    OPENAI_CHUNK("[]",                                                                                          \
                 "{\"prompt_tokens\":212,\"completion_tokens\":201,\"total_tokens\":413,"                       \
                 "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"                          \
                 "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"                    \
                 "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",                         \
                 "")
#define OPENAI_DONE "data: [DONE]\n\n"

#define ANTHROPIC_START                                                                                           \
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-5-20250929\"," \
    "\"id\":\"msg_01Lcf2EVgz1Kc4eB6cY2Wm4N\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],"         \
    "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":212,"                                \
    "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"cache_creation\":"                         \
    "{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},\"output_tokens\":1,"                      \
    "\"service_tier\":\"standard\"}}}\n\n"
#define ANTHROPIC_BLOCK                                                                      \
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"      \
    "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
#define ANTHROPIC_WORD                                                                  \
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0," \
    "\"delta\":{\"type\":\"text_delta\",\"text\":\" gateway\"}}\n\n"
#define ANTHROPIC_BLOCK_STOP "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
#define ANTHROPIC_DELTA                                                                                        \
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\","         \
    "\"stop_sequence\":null},\"usage\":{\"input_tokens\":212,\"cache_creation_input_tokens\":0,"               \
    "\"cache_read_input_tokens\":0,\"output_tokens\":201}}\n\n"
#define ANTHROPIC_STOP "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"

#endif

"""Your reward: a function that gets the completions of a batch and returns one number for each."""


def score(completions, answer, **columns):
    """Give 1 for the right number, 0.1 for any number.

    `completions` is a list of texts, because the prompts are texts. With `chat: true`, or prompts that are lists of
    messages, each completion is a list of messages: its text is `completion[0]["content"]`.
    `answer` is the column of that name, one value for each completion; `columns` has the other columns.
    """
    return [1.0 if text == right else 0.1 * text.isdigit() for text, right in zip(completions, answer)]

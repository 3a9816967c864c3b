"""From labelled pairs to a candidate model and the decision whether it may become champion."""

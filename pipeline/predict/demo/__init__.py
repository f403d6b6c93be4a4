"""A web page that shows what the collaborative model, the text-only LLM and SeLLa-Rec recommend, side by side."""

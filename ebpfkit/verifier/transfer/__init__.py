"""How each instruction moves the state, once its obligations are proved. No safety policy lives here."""

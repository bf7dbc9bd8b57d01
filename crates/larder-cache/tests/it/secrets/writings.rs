//! The ways in which people write a text of many lines into a file.

/// A way to write a text, and what for.
pub(super) type Writing = (&'static str, fn(&str) -> String);

/// Ways that leave a PEM what it is.
pub(super) const WRITINGS: &[Writing] = &[
    ("as it is", str::to_owned),
    ("line ends of Windows", |text| text.replace('\n', "\r\n")),
    ("old line ends of a Macintosh", |text| text.replace('\n', "\r")),
    ("in one line", |text| text.replace('\n', " ")),
    ("a block of YAML", |text| format!("key: |\n{}", each(text, |line| format!("    {line}\n")))),
    ("a folded block of YAML", |text| format!("key: >\n{}", each(text, |l| format!("  {l}\n\n")))),
    ("JSON", |text| serde_json::to_string(&[text]).unwrap()),
    ("JSON in JSON", |text| json(&json(text))),
    ("JSON in JSON in JSON", |text| json(&json(&json(text)))),
    ("JSON, line by line", |text| {
        serde_json::to_string(&text.lines().collect::<Vec<_>>()).unwrap()
    }),
    ("JSON in JSON, line by line", |text| {
        json(&serde_json::to_string_pretty(&text.lines().collect::<Vec<_>>()).unwrap())
    }),
    ("a text of Nix", |text| format!("key = ''\n{}'';\n", each(text, |l| format!("  {l}\n")))),
    ("a string of Nix", |text| format!("key = {};\n", json(text))),
    ("strings of Nix", |text| format!("[\n{}]", each(text, |line| format!("  \"{line}\"\n")))),
    ("sums of Nix, Java or JavaScript", |text| {
        format!("key =\n{}'';", each(text, |line| format!("  \"{line}\\n\" +\n")))
    }),
    ("sums of strings", |text| each(text, |line| format!("  + '{line}'\n"))),
    ("PHP", |text| each(text, |line| format!("  '{line}' .\n"))),
    ("C", |text| each(text, |line| format!("  \"{line}\\n\"\n"))),
    ("C, Windows", |text| each(text, |line| format!("  \"{line}\\r\\n\"\n"))),
    ("C with line ends hidden", |text| format!("\"{}\"", each(text, |l| format!("{l}\\n\\\n")))),
    ("a comment of a shell", |text| each(text, |line| format!("# {line}\n"))),
    ("a comment without space", |text| each(text, |line| format!("#{line}\n"))),
    ("a comment of C", |text| each(text, |line| format!("// {line}\n"))),
    ("a comment of Rust", |text| each(text, |line| format!("//! {line}\n"))),
    ("a comment of Java", |text| format!("/*\n{} */", each(text, |l| format!(" * {l}\n")))),
    ("a quotation", |text| each(text, |line| format!("> {line}\n"))),
    ("a table", |text| each(text, |line| format!("| {line} |\n"))),
    ("a shell's assignment", |text| format!("export KEY='{text}'\n")),
    ("a shell's echo", |text| format!("echo -e {}\n", json(text))),
    ("a shell's script", |text| format!("cat >key <<EOF\n{text}EOF\n")),
    ("an environment file", |text| format!("KEY=\"{}\"\n", text.replace('\n', "\\n"))),
    ("XML", |text| format!("<key>{text}</key>")),
    ("a program's memory", |text| format!("\0\0{text}\0\0")),
];

fn each(text: &str, line: fn(&str) -> String) -> String {
    text.lines().map(line).collect()
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

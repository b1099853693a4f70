//! Replies as the benchmarks' own evaluators read them, quirks included, so that figures can be compared with published ones.
//!
//! Each function names the evaluator that it follows. Options come without their letters.

use regex::Regex;

/// What a rule reads in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// An option's letter.
    Letter(char),
    /// No option.
    Nothing,
    /// Whether the reply is the gold text.
    Compared(bool),
    /// No rule applies: the protocol asks a judge model here.
    Judge,
}

impl Reading {
    fn of(letter: Option<char>) -> Self {
        letter.map_or(Self::Nothing, Self::Letter)
    }
}

/// The letters of so many options.
fn letters(options: &[String]) -> impl Iterator<Item = (char, &String)> {
    ('A'..='Z').zip(options)
}

/// The groups of the first match. Patterns are constants, which the tests compile.
fn groups<const N: usize>(pattern: &str, text: &str) -> Option<[String; N]> {
    let found = Regex::new(pattern).ok()?.captures(text)?;
    let groups: Vec<String> = found.iter().skip(1).flatten().map(|group| group.as_str().to_owned()).collect();
    groups.try_into().ok()
}

/// V\*Bench as lmms-eval reads it (`vstar_bench/utils.py`). A reply that begins with a letter from A to D is that option, be it the
/// first letter of a word. (The authors compare the likelihoods of options instead.)
pub fn vstar(reply: &str) -> Reading {
    const PATTERNS: [&str; 5] = [
        r"^([A-D])\s*[.)\]]*",
        r"(?:THE\s+)?(?:ANSWER|CHOICE|OPTION)(?:\s+IS)?[\s:]+([A-D])",
        r"\(([A-D])\)",
        r"([A-D])\s*(?:\.|\)|\])",
        r"(?:^|\s)([A-D])(?:\s|$)",
    ];
    let reply = reply.trim().to_uppercase();
    let found = PATTERNS.iter().find_map(|pattern| groups::<1>(pattern, &reply));
    let mut alone = reply.chars().filter(|c| ('A'..='D').contains(c));
    let alone = alone.next().filter(|_| alone.next().is_none());
    Reading::of(found.and_then(|[letter]| letter.chars().next()).or(alone))
}

/// HR-Bench as VLMEvalKit and lmms-eval read it (`hrbench_evals.py`, `can_infer`): the only option letter among the words, else
/// the only option whose text occurs, else a judge. The article "A" counts as a letter.
pub fn hrbench(reply: &str, options: &[String]) -> Reading {
    const REFUSALS: [&str; 4] = [
        "Sorry, I can't help with images of people yet.",
        "I can't process this file.",
        "I'm sorry, but without the image provided",
        "Cannot determine the answer",
    ];
    if REFUSALS.iter().any(|refusal| reply.contains(refusal)) {
        return Reading::Nothing;
    }
    let spaced = reply.replace(['.', '(', ')', '[', ']', ',', ':', ';', '!', '*', '#', '{', '}'], " ");
    let is_word = |letter: char| spaced.split_whitespace().any(|word| word.chars().eq([letter]));
    let mut found = letters(options).map(|(letter, _)| letter).filter(|letter| is_word(*letter));
    match (found.next(), found.next()) {
        (Some(letter), None) => return Reading::Letter(letter),
        (None, _) if is_word('Z') => return Reading::Nothing,
        _ => {}
    }
    let lower = reply.to_lowercase();
    let mut found = letters(options).filter(|(_, option)| lower.contains(&option.to_lowercase()));
    match (found.next(), found.next()) {
        (Some((letter, _)), None) => Reading::Letter(letter),
        _ => Reading::Judge,
    }
}

/// MME-RealWorld's own (`eval_your_results.py`): some phrases are cut out, then the first capital from A to E counts, also as the
/// first letter of a word. Two commas are missing in its list, so that `The best option is` and `Best answer:` stay. Without a capital,
/// the first option that contains the reply; so an empty reply is A.
pub fn mme_realworld(reply: &str, options: &[String]) -> Reading {
    const PHRASES: [&str; 6] = [
        "The best answer is",
        "The correct answer is",
        "The answer is",
        "The answer",
        "The best option isThe correct option is",
        "Best answer:Best option:",
    ];
    let left = PHRASES.iter().fold(reply.trim().to_owned(), |text, phrase| text.replace(phrase, ""));
    let capital = left.chars().find(|c| ('A'..='E').contains(c));
    if capital.is_some() || left.split_whitespace().count() > 10 {
        return Reading::of(capital);
    }
    let lower = left.to_lowercase();
    let option = letters(options).find(|(letter, text)| format!("({letter}) {text}").to_lowercase().contains(&lower));
    Reading::of(option.map(|(letter, _)| letter))
}

/// BLINK's own (`eval/test_benchmark.py`, `analyze_answer`): a letter from A to E alone, with or without brackets; else the only
/// `(A)` among the words of the last paragraph, else of the reply. Anything else goes to a judge. (lmms-eval takes the first letter of the
/// reply, whatever word it begins.)
pub fn blink(reply: &str, options: usize) -> Reading {
    let alone = reply.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(reply);
    if let Some(letter) = ('A'..='E').find(|letter| alone.chars().eq([*letter])) {
        return Reading::Letter(letter);
    }
    let among = |text: &str| -> Vec<char> {
        let is_word = |letter: &char| text.split_whitespace().any(|word| word.chars().eq(['(', *letter, ')']));
        ('A'..='E').take(options).filter(is_word).collect()
    };
    let last = reply.rsplit("\n\n").next().map(among).unwrap_or_default();
    match (&last[..], &among(reply)[..]) {
        ([letter], _) | (_, [letter]) => Reading::Letter(*letter),
        _ => Reading::Judge,
    }
}

/// MuirBench's own, which is MMMU's (`postprocess.py`): letters in brackets, else letters between spaces, else, in a reply of more
/// than five words, texts of options; of several the last. `Nothing` is where it draws an option at random.
pub fn muirbench(reply: &str, options: &[String]) -> Reading {
    let marks = [',', '.', '!', '?', ';', ':', '\''];
    let reply = marks.iter().fold(reply, |text, mark| text.trim_matches(*mark));
    let padded = format!(" {reply} ");
    let last = |places: Vec<(char, Option<usize>)>| {
        let there = places.into_iter().filter_map(|(letter, at)| Some((at?, letter)));
        // Of equal places the first option counts.
        there.fold(None, |best: Option<(usize, char)>, next| best.filter(|best| best.0 >= next.0).or(Some(next)))
    };
    let of = |form: &dyn Fn(char) -> String| {
        last(letters(options).map(|(letter, _)| (letter, padded.rfind(&form(letter)))).collect())
    };
    let by_letter = of(&|letter| format!("({letter})")).or_else(|| of(&|letter| format!(" {letter} ")));
    let lower = padded.to_lowercase();
    let by_text = || last(letters(options).map(|(letter, text)| (letter, lower.rfind(&text.to_lowercase()))).collect());
    let long = padded.split_whitespace().count() > 5;
    Reading::of(by_letter.or_else(|| long.then(by_text).flatten()).map(|(_, letter)| letter))
}

/// What follows `final answer:` in any case, or the whole reply (Mantis-Eval's `parse_answer`).
fn final_answer(reply: &str) -> &str {
    const MARK: &str = "final answer:";
    reply.to_ascii_lowercase().find(MARK).map_or(reply, |at| reply[at + MARK.len()..].trim())
}

/// Mantis-Eval's own (`mantis/benchmark/eval.py`), multiple choice: the letter after `Answer: ` at the start, else the first letter at all,
/// whatever word it begins. Where that is no option, the whole reply has to be the text of the right one.
pub fn mantis_choice(reply: &str, options: &[String], gold: char) -> Reading {
    let answer = final_answer(reply);
    let named = groups::<1>("^Answer: ([A-Z])", answer).and_then(|[letter]| letter.chars().next());
    let letter = named.or_else(|| answer.chars().find(|c| c.is_alphabetic()).and_then(|c| c.to_uppercase().next()));
    let is_option = |letter: &char| letters(options).any(|(own, _)| own == *letter);
    let is_text = || letters(options).any(|(own, text)| own == gold && text == reply.trim());
    Reading::of(letter.filter(is_option).or_else(|| is_text().then_some(gold)))
}

/// Mantis-Eval's own, short answers: equal to the gold one but for capitals and brackets.
pub fn mantis_text(reply: &str, gold: &str) -> bool {
    let gold = gold.trim_matches(['(', ')', '\n', ' ']);
    gold.to_lowercase() == final_answer(reply).to_lowercase()
}

/// MMIU's own (`evaluate.py`): a single letter from A to N between points, commas and brackets; anything else goes to a judge.
pub fn mmiu(reply: &str) -> Reading {
    const FAILED: [&str; 5] = ["image none", "model error or image error", "image error", "model error", ""];
    let reply = reply.trim();
    if FAILED.contains(&reply) {
        return Reading::Nothing;
    }
    let plain = reply.replace('\u{a0}', "");
    let plain = plain.trim().trim_matches(['.', ',', '(', ')']).trim().to_uppercase();
    match plain.chars().next().filter(|letter| plain.len() == 1 && ('A'..='N').contains(letter)) {
        Some(letter) => Reading::Letter(letter),
        None => Reading::Judge,
    }
}

/// The numbers of the box that MIG-Bench's own reader takes (`eval/utils.py`, `extract_bbox`), as written, and how many boxes there are:
/// the first form that occurs at all, and its first box. `None` where there is no box.
pub fn mig_numbers(reply: &str) -> Option<([f64; 4], usize)> {
    const FORMS: [&str; 6] = [
        r"\((\d+),\s*(\d+)\),\s*\((\d+),\s*(\d+)\)",
        r"\[(\d+\.\d+),\s*(\d+\.\d+),\s*(\d+\.\d+),\s*(\d+\.\d+)\]",
        r"\((\d+\.\d+),(\d+\.\d+)\),\((\d+\.\d+),(\d+\.\d+)\)",
        r"\((\d+\.\d+),\s*(\d+\.\d+),\s*(\d+\.\d+),\s*(\d+\.\d+)\)",
        r"\[(\d+),\s*(\d+),\s*(\d+),\s*(\d+)\]",
        r"<box>(\d+)\s+(\d+)\s+(\d+)\s+(\d+)</box>",
    ];
    let count = |form: &str| Regex::new(form).ok().map_or(0, |form| form.find_iter(reply).count());
    let (form, boxes) = FORMS.iter().map(|form| (form, count(form))).find(|(_, boxes)| *boxes > 0)?;
    Some((groups::<4>(form, reply)?.map(|number| number.parse().unwrap_or(0.0)), boxes))
}

/// MIG-Bench's own box in fractions: numbers from 1 on count as thousandths, of several boxes those above 1; nothing is known of pixels.
/// `None` counts as no overlap.
pub fn mig_box(reply: &str) -> Option<[f64; 4]> {
    let (numbers, boxes) = mig_numbers(reply)?;
    let is_thousandth = |number: f64| if boxes == 1 { number >= 1.0 } else { number > 1.0 };
    Some(numbers.map(|number| if is_thousandth(number) { number / 1000.0 } else { number }))
}

/// MIG-Bench's own overlap of two boxes in fractions (`calculate_iou`); 0 where that divides by zero, or where numbers have more digits than
/// can be.
pub fn mig_iou(gold: [f64; 4], found: [f64; 4]) -> f64 {
    let (left, top) = (gold[0].max(found[0]), gold[1].max(found[1]));
    let (right, bottom) = (gold[2].min(found[2]), gold[3].min(found[3]));
    if right < left || bottom < top {
        return 0.0;
    }
    let area = |b: [f64; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let common = (right - left) * (bottom - top);
    let union = area(gold) + area(found) - common;
    if union > 0.0 && union.is_finite() { common / union } else { 0.0 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::Reading::{Judge, Letter, Nothing};
    use super::*;

    fn options(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn vstar_takes_letters_in_five_forms() {
        let cases = [
            ("B", Letter('B')),
            ("b.", Letter('B')),
            ("Because it is red", Letter('B')),
            ("The answer is C.", Letter('C')),
            ("It is (D)", Letter('D')),
            ("Looks to me like C) red", Letter('C')),
            ("I think B is right", Letter('B')),
            ("", Nothing),
            ("none", Nothing),
        ];
        cases.iter().for_each(|(reply, wanted)| assert_eq!(vstar(reply), *wanted, "{reply}"));
    }

    #[test]
    fn hrbench_takes_one_letter_or_one_text() {
        let options = options(&["red", "dark blue", "green", "grey"]);
        let cases = [
            ("(B)", Letter('B')),
            ("The answer is C.", Letter('C')),
            ("A car in dark blue", Letter('A')),
            ("The car is Dark Blue", Letter('B')),
            ("red or green", Judge),
            ("A or B: it is green", Letter('C')),
            ("Z", Nothing),
            ("Cannot determine the answer: B", Nothing),
            ("yellow", Judge),
            ("Bandana", Judge),
        ];
        cases.iter().for_each(|(reply, wanted)| assert_eq!(hrbench(reply, &options), *wanted, "{reply}"));
    }

    #[test]
    fn mme_realworld_takes_the_first_capital() {
        let options = options(&["four", "five", "six", "seven", "This image doesn't feature the count."]);
        let cases = [
            ("B", Letter('B')),
            ("The best answer is C", Letter('C')),
            ("The best option is C", Letter('C')),
            ("Best answer: C", Letter('B')),
            ("Definitely B", Letter('D')),
            ("five", Letter('B')),
            ("this image doesn't feature the count.", Letter('E')),
            ("", Letter('A')),
            ("there is no way to tell how many of them there are", Nothing),
            ("eight", Nothing),
        ];
        cases.iter().for_each(|(reply, wanted)| assert_eq!(mme_realworld(reply, &options), *wanted, "{reply}"));
    }

    #[test]
    fn blink_takes_a_letter_alone_or_the_only_one_in_brackets() {
        let cases = [
            ("B", Letter('B')),
            ("(B)", Letter('B')),
            ("E", Letter('E')),
            ("I think (B) is closer", Letter('B')),
            ("(A) is a cup.\n\n(B) is closer", Letter('B')),
            ("Only (A) fits.\n\nNothing else does", Letter('A')),
            ("(A) or (B)", Judge),
            ("(A) is near.\n\n(A) and (B) are", Judge),
            ("(C) is closer", Judge),
            ("The answer is (B).", Judge),
            ("b", Judge),
            ("The answer is B", Judge),
            ("", Judge),
        ];
        cases.iter().for_each(|(reply, wanted)| assert_eq!(blink(reply, 2), *wanted, "{reply}"));
    }

    #[test]
    fn muirbench_takes_the_last_of_several() {
        let options = options(&["a cat", "a dog", "two birds", "None of the choices provided"]);
        let cases = [
            ("B", Letter('B')),
            ("B.", Letter('B')),
            ("(A) looks right, but (C) is", Letter('C')),
            ("(A), though B is near", Letter('A')),
            ("A or B or A", Letter('A')),
            ("What I see there is a dog, not a cat", Letter('A')),
            ("a dog", Nothing),
            ("I cannot tell anything from the pictures here", Nothing),
            ("", Nothing),
        ];
        cases.iter().for_each(|(reply, wanted)| assert_eq!(muirbench(reply, &options), *wanted, "{reply}"));
    }

    #[test]
    fn mantis_takes_the_first_letter_of_the_final_answer() {
        let options = options(&["Yes", "No"]);
        let cases = [
            ("B", Letter('B')),
            ("(b) No", Letter('B')),
            ("I look. Final Answer: A", Letter('A')),
            ("Answer: B", Letter('B')),
            ("The answer is B", Nothing),
            ("No", Letter('B')),
            ("Yes", Nothing),
            ("17", Nothing),
        ];
        cases.iter().for_each(|(reply, wanted)| assert_eq!(mantis_choice(reply, &options, 'B'), *wanted, "{reply}"));
        let texts = [("Three", true), ("I count. final answer: three", true), ("three cups", false)];
        texts.iter().for_each(|(reply, wanted)| assert_eq!(mantis_text(reply, "(three)"), *wanted, "{reply}"));
    }

    #[test]
    fn mmiu_takes_a_letter_alone() {
        let cases = [
            ("(c).", Letter('C')),
            ("N", Letter('N')),
            ("O", Judge),
            ("B: red", Judge),
            ("", Nothing),
            ("model error", Nothing),
        ];
        cases.iter().for_each(|(reply, wanted)| assert_eq!(mmiu(reply), *wanted, "{reply}"));
    }

    #[test]
    fn mig_boxes_in_six_forms() {
        let wanted = Some([0.1, 0.2, 0.3, 0.4]);
        for reply in [
            "<|box_start|>(100,200),(300,400)<|box_end|>",
            "(100, 200), (300, 400)",
            "[0.1, 0.2, 0.3, 0.4]",
            "(0.1,0.2),(0.3,0.4)",
            "(0.1, 0.2, 0.3, 0.4)",
            "{\"bbox_2d\": [100, 200, 300, 400]}",
            "<box>100 200 300 400</box>",
            "(100,200),(300,400) or (1,2),(3,4)",
            "[500, 500, 600, 600], no: (100,200),(300,400)",
        ] {
            assert_eq!(mig_box(reply), wanted, "{reply}");
        }
        assert_eq!(mig_box("(1,0),(1000,2)"), Some([0.001, 0.0, 1.0, 0.002]));
        assert_eq!(
            mig_box("(1,0),(1000,2) (1,0),(3,4)"),
            Some([1.0, 0.0, 1.0, 0.002]),
            "1 stays 1 where there are several"
        );
        assert_eq!(mig_numbers("(1,0),(1000,2)"), Some(([1.0, 0.0, 1000.0, 2.0], 1)));
        for reply in ["", "(0.1, 0.2), (0.3, 0.4)", "[1, 2, 3]", "[-1, 2, 3, 4]"] {
            assert_eq!(mig_box(reply), None, "{reply}");
        }
    }

    #[test]
    fn mig_overlap_is_that_of_the_evaluator() {
        assert_eq!(mig_iou([0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0]), 0.5);
        assert_eq!(mig_iou([0.0, 0.0, 0.4, 1.0], [0.5, 0.0, 1.0, 1.0]), 0.0);
        // A gold box with its corners the wrong way round.
        assert_eq!(mig_iou([0.5, 0.0, 0.4, 1.0], [0.0, 0.0, 1.0, 1.0]), 0.0);
        assert_eq!(mig_iou([0.2, 0.2, 0.2, 0.2], [0.2, 0.2, 0.2, 0.2]), 0.0);
        assert_eq!(mig_iou([0.0, 0.0, 1.0, 1.0], [0.0, 0.0, f64::INFINITY, 1.0]), 0.0);
    }

    /// Texts of the pieces that the rules look for, and of anything.
    fn replies() -> impl Strategy<Value = String> {
        let pieces =
            ["A", "(B)", " ", "\n\n", "É", "final answer:", "Answer: C", "(1,2),(3,4)", "[0.1, 9, 1]", "ß", "."];
        let made =
            prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..9).prop_map(|pieces| pieces.concat());
        prop_oneof![made, any::<String>()]
    }

    proptest! {
        #[test]
        fn every_reply_is_read(reply in replies(), texts in prop::collection::vec("[a-cA-C é]{0,3}", 0..6)) {
            let count = texts.len();
            let among = |reading: Reading| match reading {
                Letter(letter) => letters(&texts).any(|(own, _)| own == letter),
                _ => true,
            };
            prop_assert!(among(hrbench(&reply, &texts)) && among(muirbench(&reply, &texts)));
            prop_assert!(among(mantis_choice(&reply, &texts, 'A')));
            prop_assert!(matches!(vstar(&reply), Letter('A'..='D') | Nothing));
            prop_assert!(matches!(mme_realworld(&reply, &texts), Letter(_) | Nothing));
            prop_assert!(matches!(blink(&reply, count), Letter('A'..='E') | Judge));
            prop_assert!(matches!(mmiu(&reply), Letter('A'..='N') | Nothing | Judge));
            let four = format!("{reply}four");
            prop_assert!(!mantis_text(&four, "three"));
            let overlap = mig_box(&reply).map_or(0.0, |found| mig_iou([0.1, 0.1, 0.9, 0.9], found));
            prop_assert!((0.0..=1.0).contains(&overlap));
        }

        #[test]
        fn boxes_of_any_digits_are_read(n in prop::array::uniform4("[0-9]{1,400}"), gold in prop::array::uniform4(-1.0..2.0)) {
            let [a, b, c, d] = n;
            let found = mig_box(&format!("({a},{b}),({c},{d})")).unwrap();
            prop_assert!(mig_iou(gold, found).is_finite());
        }
    }
}

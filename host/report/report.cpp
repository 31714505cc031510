#include "host/report/report.h"

#include <fmt/format.h>

#include <cmath>
#include <string_view>

#include "host/report/figures.h"
#include "host/report/markup.h"
#include "host/report/report_style.h"
#include "host/text.h"

namespace mnist {
namespace {

constexpr size_t kMostRows = 1000;  // of the table of epochs

std::string number(double value, int decimals) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, decimals) : "\u2013";
}

std::string share(double value) {
  return std::isfinite(value) ? percent_text(value) : "\u2013";
}

// --- HTML ----------------------------------------------------------------------------------------

std::string element(std::string_view tag, std::string_view text, std::string_view attributes = "") {
  return fmt::format("<{0}{1}>{2}</{0}>", tag, attributes, escaped(text));
}

// A table with a heading for each column and each row.
class Table {
 public:
  Table(std::string_view caption, std::initializer_list<const char*> columns) {
    // What is wider than the screen scrolls by itself; by keyboard too, where it can have the
    // focus.
    html_ = fmt::format(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\">\n"
        "<table><caption>{0}</caption>\n<thead><tr>",
        escaped(caption));
    for (const char* column : columns) html_ += element("th", column, " scope=\"col\"");
    html_ += "</tr></thead>\n<tbody>\n";
  }
  void add(const std::vector<std::string>& cells) {
    html_ += "<tr>";
    for (const std::string& cell : cells)
      html_ += &cell == cells.data() ? element("th", cell, " scope=\"row\"") : element("td", cell);
    html_ += "</tr>\n";
  }
  std::string html() const { return html_ + "</tbody></table></div>\n"; }

 private:
  std::string html_;
};

std::string folded(std::string_view summary, const std::string& html) {
  return fmt::format("<details><summary>{}</summary>\n{}</details>\n", escaped(summary), html);
}

std::string key(std::string_view name, std::string_view value, std::string_view more = "") {
  return fmt::format("<div><dt>{}</dt><dd>{}{}</dd></div>\n", escaped(name), escaped(value),
                     more.empty() ? "" : element("small", more));
}

// --- the parts of the page -----------------------------------------------------------------------

std::string lead_text(const Report& report) {
  if (!report.test) return "";
  const Answers& answers = report.test->answers;
  const std::string right =
      answers.wrong == 0
          ? fmt::format("All {} test images of {} are read rightly", grouped(answers.samples),
                        report.test->dataset)
          : fmt::format("{} of the {} test images of {} are read rightly, {} wrongly",
                        percent_text(answers.accuracy()), grouped(answers.samples),
                        report.test->dataset, grouped(answers.wrong));
  return report.test->epoch > 0 ? fmt::format("After epoch {}: {}.", report.test->epoch, right)
                                : right + ".";
}

std::string head(const Report& report) {
  const std::string accuracy =
      report.test ? percent_text(report.test->answers.accuracy()) + ", " : "";
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"referrer\" content=\"no-referrer\">\n"
      "<title>{}: {}cuda-mnist report</title>\n<style>\n{}{}</style>\n</head>\n<body>\n",
      kReportPolicy, escaped(report.name), accuracy, colour_rules(), kReportStyle);
}

std::string key_figures(const Report& report) {
  std::string html;
  if (report.test) {
    const Answers& answers = report.test->answers;
    html += key("Test accuracy", percent_text(answers.accuracy()));
    html += key("Test loss", number(report.test->loss, 4));
    html += key("Mistakes", grouped(answers.wrong), "of " + grouped(answers.samples));
  }
  if (const EpochResult* best = most_accurate(report.epochs))
    html += key("Best epoch", grouped(best->epoch), share(best->val_accuracy));
  if (!report.epochs.empty()) html += key("Epochs", grouped(report.epochs.back().epoch));
  html += key("Parameters", grouped(int64_t(report.model->parameter_count())),
              fmt::format("in {} layers", report.model->layers.size()));
  return "<dl class=\"keys\">\n" + html + "</dl>\n";
}

std::string opening(const Report& report) {
  std::string html = fmt::format("<header>\n<p class=\"kicker\">cuda-mnist report</p>\n{}\n",
                                 element("h1", report.name));
  const std::string lead = lead_text(report);
  if (!lead.empty()) html += element("p", lead, " class=\"lead\"") + "\n";
  if (!report.status.empty())
    html += fmt::format(
        "<p class=\"status\">{}{}</p>\n", escaped(report.status),
        report.under_way ? " <a class=\"live\" href=\"\">Reload this page</a><span class=\"live\"> "
                           "to see how it goes on.</span>"
                         : "");
  return html + key_figures(report) + "</header>\n<main>\n";
}

std::string epoch_table(const Report& report) {
  const size_t rows = std::min(report.epochs.size(), kMostRows);
  Table table(rows < report.epochs.size() ? fmt::format("The last {} epochs", rows) : "Every epoch",
              {"Epoch", "Loss", "Accuracy", "Validation loss", "Validation accuracy"});
  for (const EpochResult& epoch : std::span(report.epochs).last(rows))
    table.add({grouped(epoch.epoch), number(epoch.loss, 4), share(epoch.accuracy),
               number(epoch.val_loss, 4), share(epoch.val_accuracy)});
  return table.html();
}

std::string training_part(const Report& report) {
  std::string html = "<section>\n<h2>Training</h2>\n";
  for (const std::string& remark : report.remarks) html += element("p", remark) + "\n";
  if (!report.epochs.empty()) {
    html += "<div class=\"pair curves\">\n" + svg_inline(accuracy_chart(report.epochs)) +
            svg_inline(loss_chart(report.epochs)) + "</div>\n" +
            folded("The epochs as a table", epoch_table(report));
  }
  return html + "</section>\n";
}

std::string score_table(const Answers& answers) {
  Table table("Scores of each class", {"Class", "Precision", "Recall", "F1", "Images"});
  const auto scores = class_scores(answers.confusion);
  for (size_t c = 0; c < scores.size(); ++c)
    table.add({fmt::format("{}", c), number(scores[c].precision, 4), number(scores[c].recall, 4),
               number(scores[c].f1, 4), grouped(scores[c].support)});
  return table.html();
}

std::string confusion_table(const Answers& answers) {
  Table table("Rows: the truth; columns: the answer",
              {"Truth", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"});
  for (size_t truth = 0; truth < answers.confusion.size(); ++truth) {
    std::vector<std::string> cells{fmt::format("{}", truth)};
    for (const int64_t count : answers.confusion[truth]) cells.push_back(grouped(count));
    table.add(cells);
  }
  return table.html();
}

std::string test_part(const TestResult& test) {
  return fmt::format(
      "<section>\n<h2>Test set</h2>\n<div class=\"pair\">\n<div>{}{}</div>\n<div>{}"
      "<p class=\"muted\">Precision: of the answers with this class, the share that is right. "
      "Recall: of the images of this class, the share that is found. F1: their harmonic mean.</p>"
      "</div>\n</div>\n</section>\n",
      svg_inline(confusion_chart(test.answers.confusion)),
      folded("The confusion matrix as a table", confusion_table(test.answers)),
      score_table(test.answers));
}

std::string mistakes_part(const TestResult& test) {
  const Answers& answers = test.answers;
  std::string html = "<section>\n<h2>Worst mistakes</h2>\n";
  if (answers.wrong == 0) return html + "<p>There is none.</p>\n</section>\n";
  if (answers.worst.empty()) return "";  // none were asked for
  const auto shown = int64_t(answers.worst.size());
  html += element("p", shown < answers.wrong
                           ? fmt::format("The {} of {} that the network is surest of: the truth, "
                                         "its answer, and the probability that it gave it.",
                                         grouped(shown), grouped(answers.wrong))
                           : "All of them, those first that the network is surest of: the truth, "
                             "its answer, and the probability that it gave it.") +
          "\n<ul class=\"mistakes\">\n";
  for (size_t i = 0; i < answers.worst.size(); ++i) {
    const Mistake& mistake = answers.worst[i];
    const uint8_t* image = test.images->images.data() + mistake.image * kMnistSide * kMnistSide;
    html +=
        fmt::format("<li><figure>{}<figcaption>{}<span>{}</span></figcaption></figure></li>\n",
                    svg_inline(digit_picture(image, 84, fmt::format("mistake-{}", i + 1),
                                             fmt::format("Test image {}", grouped(mistake.image)))),
                    mistake_words(mistake), percent_text(mistake.probability));
  }
  return html + "</ul>\n</section>\n";
}

std::string weights_part(const Report& report) {
  const FirstLayer layer = first_layer(*report.model, report.weights);
  std::string text = layer.filters ? "What each filter of the first convolution looks for"
                                   : "What each unit of the first dense layer looks for";
  text += ": ink where it is blue, paper where it is orange.";
  if (int64_t(layer.tiles.size()) < layer.tiles_in_all)
    text += fmt::format(" The first {} of {}.", grouped(int64_t(layer.tiles.size())),
                        grouped(layer.tiles_in_all));
  return fmt::format(
      "<section>\n<h2>First layer</h2>\n{}\n{}"
      "</section>\n",
      element("p", text), svg_inline(weights_chart(layer)));
}

std::string model_part(const Model& model) {
  Table table("Layers", {"Layer", "Output", "Parameters"});
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const Layer& layer = model.layers[i];
    table.add({fmt::format("{} ({})", layer.name, class_name(layer.kind)), shape_text(layer),
               grouped(int64_t(model.parameter_count(int(i))))});
  }
  return fmt::format("<section>\n<h2>Model</h2>\n{}\n{}</section>\n",
                     element("p", arch_string(model), " class=\"code\""), table.html());
}

std::string facts_part(const std::vector<Fact>& facts) {
  std::string html = "<section>\n<h2>How it was made</h2>\n<dl class=\"facts\">\n";
  for (const Fact& fact : facts)
    html += element("dt", fact.name) + element("dd", fact.value) + "\n";
  return html + "</dl>\n</section>\n";
}

}  // namespace

std::vector<Figure> report_figures(const Report& report) {
  std::vector<Figure> figures;
  if (!report.epochs.empty()) {
    figures.push_back(accuracy_chart(report.epochs));
    figures.push_back(loss_chart(report.epochs));
  }
  if (report.test) {
    figures.push_back(confusion_chart(report.test->answers.confusion));
    figures.push_back(mistakes_chart(*report.test->images, report.test->answers.worst));
  }
  if (!report.weights.empty())
    figures.push_back(weights_chart(first_layer(*report.model, report.weights)));
  return figures;
}

std::string report_html(const Report& report) {
  std::string html = head(report) + opening(report);
  if (!report.epochs.empty() || !report.remarks.empty()) html += training_part(report);
  if (report.test) html += test_part(*report.test) + mistakes_part(*report.test);
  if (!report.weights.empty()) html += weights_part(report);
  html += model_part(*report.model) + facts_part(report.facts);
  return html + "</main>\n" + element("footer", report.written) + "\n</body>\n</html>\n";
}

}  // namespace mnist
